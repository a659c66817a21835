"""What a model answers about whole images, of one square or several tiles."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.networks.temperature import calibrate

BATCH = 32  # squares that the network sees at once
TURNS = {"none": 1, "flips": 4, "d4": 8}  # how often a model sees an image, by `model.tta`


def turned(pixels: NDArray[np.float32], tta: str) -> Iterator[NDArray[np.float32]]:
    """Yield images (..., s, s, 3) as they are, then flipped, and with 'd4' also turned; each tile keeps its place."""
    for number in range(TURNS[tta]):
        across, down = (-1 if number & bit else 1 for bit in (1, 2))
        seen = pixels[..., ::down, ::across, :]
        yield seen.swapaxes(-3, -2) if number & 4 else seen


def images_at_once(views: int) -> int:
    """Return how many images of so many squares the network sees at once, since each square takes much memory."""
    return max(1, BATCH // views)


def answer_images(model: Any, asked: Any, temperature: float, tta: str) -> NDArray[np.float32]:
    """Return one calibrated answer per image: the mean over its tiles, flips and turns.

    A model that takes all tiles together answers once about them.

    Parameters
    ----------
    model
        As `build_model` makes it: its `pixels` are (n, size, size, 3), or (n, views, size, size, 3).
    asked
        (n, views, size, size, 3) float32, 0 to 255, as `prepare` gives them; or a dict of these `pixels` and of
        `extra`, (n, k) float32.
    temperature, tta
        Those of the model's card.

    Returns
    -------
    numpy.ndarray
        (n, 1) or (n, classes) float32, probabilities.
    """
    pixels, extra = (asked["pixels"], asked["extra"]) if isinstance(asked, dict) else (asked, None)
    given = np.mean([_answer(model, seen, extra) for seen in turned(pixels, tta)], axis=0)
    return calibrate(given, temperature).astype(np.float32)


def _answer(model: Any, pixels: NDArray[np.float32], extra: Any) -> NDArray[np.float32]:
    n, views = pixels.shape[:2]
    together = any(len(tensor.shape) == 5 for tensor in model.inputs)
    if not together:
        pixels = pixels.reshape(n * views, *pixels.shape[2:])
        extra = None if extra is None else np.repeat(extra, views, axis=0)
    given = np.asarray(model.predict_on_batch(pixels if extra is None else {"pixels": pixels, "extra": extra}))
    return given.astype(np.float32) if together else given.astype(np.float32).reshape(n, views, -1).mean(axis=1)
