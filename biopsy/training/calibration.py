"""Fit the temperature of a model that has just been trained, on its validation images."""

from typing import Any

import numpy as np

from biopsy.networks.answers import BATCH, answer_images
from biopsy.networks.temperature import Calibration, fit_temperature, why_not


def fit_calibration(
    model: Any, pixels: np.ndarray, extra: np.ndarray | None, targets: np.ndarray, cases: np.ndarray
) -> tuple[float, Calibration]:
    """Ask the model about the validation images, unless they are too few, and fit its temperature.

    Parameters
    ----------
    model
        As `build_model` makes it, trained.
    pixels
        (n, views, size, size, 3) uint8: the validation images.
    extra
        (n, k) float32, what the model is told beside the pixels; None where that is nothing.
    targets, cases
        (n,) the class and the case of each.

    Returns
    -------
    float, Calibration
        As `fit_temperature`.
    """
    given = np.full((len(targets), 1), np.nan)  # of too few images nothing is asked, which would cost seconds
    if not why_not(targets, cases):
        step, parts = max(1, BATCH // pixels.shape[1]), []
        for start in range(0, len(targets), step):
            seen = pixels[start : start + step].astype(np.float32)
            asked = seen if extra is None else {"pixels": seen, "extra": extra[start : start + step]}
            parts.append(answer_images(model, asked, 1.0))
        given = np.concatenate(parts)
    return fit_temperature(given, targets, cases)
