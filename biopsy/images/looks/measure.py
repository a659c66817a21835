"""How an image looks, in a few numbers, so that images from elsewhere can be compared with training images."""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.images.looks.record import Looks, ranges_of
from biopsy.images.looks.tissue import LEAST_TISSUE, tissue_weight

MOST = 200  # training images that are measured: enough for a range
STEP = 3  # colour is measured on every third pixel in each direction: the same result, ten times as fast


class Images(Protocol):
    """Images by number, such as an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[np.uint8]: ...


def look_at(views: NDArray[np.uint8]) -> dict[str, float]:
    """Measure one image as the network sees it.

    Parameters
    ----------
    views
        (views, size, size, 3) uint8, RGB, of `prepare`.

    Returns
    -------
    dict
        The numbers of `WORDS` except width and height, and except those of tissue where there is hardly any.
    """
    whole = views[:, ::STEP, ::STEP].reshape(-1, -(-views.shape[2] // STEP), 3)
    weight = tissue_weight(whole)
    inside = weight > 0
    edges = [cv2.Laplacian(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.CV_32F) for view in views]
    found = {
        "focus": float(np.mean([edge.std() for edge in edges])),
        "brightness": float(whole.mean()),
        "tissue": float(weight.mean()),
    }
    if inside.mean() >= LEAST_TISSUE:
        pixels = whole[inside][:, None]
        lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
        density = -np.log10((pixels.astype(np.float32) + 1) / 256)
        found |= {"density": float(density.mean()), "red": float(lab[:, 1].mean()), "yellow": float(lab[:, 2].mean())}
    return found


def looks_of_training(images: Images, widths: Sequence[float], heights: Sequence[float]) -> Looks:
    """Measure training images, at most `MOST`, evenly spaced.

    Parameters
    ----------
    images
        (n, views, size, size, 3) uint8, RGB.
    widths, heights
        (n,) of the files, in pixels.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(MOST, len(images))).astype(int))
    return ranges_of([{**look_at(images[i]), "width": float(widths[i]), "height": float(heights[i])} for i in chosen])
