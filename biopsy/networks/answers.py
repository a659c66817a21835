"""What a model answers about whole images, be they one square or several tiles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.networks.temperature import calibrate

BATCH = 32  # squares that the network sees at once


def answer_images(model: Any, asked: Any, temperature: float) -> NDArray[np.float32]:
    """Return one calibrated answer an image; a model of single tiles is asked about each, and its answers are averaged.

    Parameters
    ----------
    model
        As `build_model` makes it: its `pixels` are (n, size, size, 3), or (n, views, size, size, 3).
    asked
        (n, views, size, size, 3) float32, 0 to 255, as `prepare` gives them; or a dict of these `pixels` and of
        `extra`, (n, k) float32.
    temperature
        That of the model's card.

    Returns
    -------
    numpy.ndarray
        (n, 1) or (n, classes) float32, probabilities.
    """
    pixels, extra = (asked["pixels"], asked["extra"]) if isinstance(asked, dict) else (asked, None)
    n, views = pixels.shape[:2]
    if any(len(tensor.shape) == 5 for tensor in model.inputs):
        return calibrate(np.asarray(model.predict_on_batch(asked), np.float32), temperature).astype(np.float32)
    tiles = pixels.reshape(n * views, *pixels.shape[2:])
    about = tiles if extra is None else {"pixels": tiles, "extra": np.repeat(extra, views, axis=0)}
    given = np.asarray(model.predict_on_batch(about), np.float32)
    return calibrate(given.reshape(n, views, -1).mean(axis=1), temperature).astype(np.float32)
