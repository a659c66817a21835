"""The temperature of a model that has just been trained, and its answers about validation images, which it needs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from biopsy.networks.answers import BATCH, answer_images
from biopsy.networks.temperature import Calibration, fit_temperature, why_not


def fit_calibration(
    answers: Callable[[], np.ndarray], inner: np.ndarray | None, targets: np.ndarray, cases: np.ndarray, n_train: int
) -> tuple[float, Calibration]:
    """Fit the temperature on validation, or where that does not suffice on the inner folds of a probe.

    Parameters
    ----------
    answers
        Gives what `ask` returns about the n - n_train validation images; not called where those are too few.
    inner
        (n_train, classes), a probe's answers about its training images out of folds of their cases; None: there are
        none.
    targets, cases
        (n,) the class and the case of each image, those of training first.

    Returns
    -------
    float, Calibration
        As `fit_temperature`.
    """
    val = targets[n_train:], cases[n_train:]
    given = np.full((len(val[0]), 1), np.nan) if why_not(*val) else answers()
    temperature, fitted = fit_temperature(given, *val)
    if fitted.reason and inner is not None:
        other, found = fit_temperature(inner, targets[:n_train], cases[:n_train])
        if not found.reason:
            return other, found.model_copy(update={"part": "train"})
    return temperature, fitted


def ask(model: Any, pixels: np.ndarray, extra: np.ndarray | None, tta: str) -> np.ndarray:
    """Ask a model about images, a batch at a time.

    Parameters
    ----------
    model
        As `build_model` makes it, trained.
    pixels
        (n, views, size, size, 3) uint8.
    extra
        (n, k) float32, what the model is told beside the pixels; None where that is nothing.
    tta
        `model.tta`, since the temperature holds for answers to questions asked in one way.

    Returns
    -------
    numpy.ndarray
        (n, 1) or (n, classes) float32, as the model gives them, at temperature 1.
    """
    step, parts = max(1, BATCH // pixels.shape[1]), []
    for start in range(0, len(pixels), step):
        seen = pixels[start : start + step].astype(np.float32)
        asked = seen if extra is None else {"pixels": seen, "extra": extra[start : start + step]}
        parts.append(answer_images(model, asked, 1.0, tta))
    return np.concatenate(parts)
