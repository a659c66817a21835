"""What a model that has just been trained answers about its validation images, and the temperature fitted on that."""

from collections.abc import Callable
from typing import Any

import numpy as np

from biopsy.networks.answers import BATCH, answer_images
from biopsy.networks.temperature import Calibration, fit_temperature, why_not


def fit_calibration(
    answers: Callable[[], np.ndarray], targets: np.ndarray, cases: np.ndarray
) -> tuple[float, Calibration]:
    """Fit the temperature; `answers` is not called where validation is too small, which saves seconds.

    Parameters
    ----------
    answers
        Gives what `ask` returns about the n validation images.
    targets, cases
        (n,) the class and the case of each.

    Returns
    -------
    float, Calibration
        As `fit_temperature`.
    """
    given = np.full((len(targets), 1), np.nan) if why_not(targets, cases) else answers()
    return fit_temperature(given, targets, cases)


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
