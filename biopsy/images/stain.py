"""Stain normalisation of one image at a time, on tissue alone; `biopsy.images.stains` has the methods.

Glass keeps its colour. It has no stain, much of it would distort an image's statistics, and it would turn grey or
purple if it were changed together with the tissue.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import biopsy.images.stains  # noqa: F401  (fills the registry)
from biopsy.images.looks.tissue import LEAST_TISSUE, tissue_weight
from biopsy.images.preparation.record import Stains
from biopsy.images.stains.registry import NotNormalised, Pixels, find

LARGEST_GAIN = 4.0  # more contrast than this would be noise, enlarged
SAMPLE = 65_536  # pixels of tissue at most that a stain is measured on, evenly spread

Image = NDArray[np.uint8]


def measure(image: Image, method: str) -> Stains:
    """Measure the stain of one image's tissue.

    Raises
    ------
    NotNormalised
        No tissue, or none whose stain can be told.
    """
    return find(method).measure(_tissue(image, tissue_weight(image)))


def mean_of(measured: Sequence[Stains]) -> Stains:
    """Average what was measured on several images."""
    return find(measured[0].method).average(measured)


def normalise(image: Image, target: Stains) -> Image:
    """Give an image's tissue the target's stain.

    Parameters
    ----------
    image
        (height, width, 3) uint8, RGB.
    target
        Of `measure` or `mean_of`.

    Returns
    -------
    numpy.ndarray
        (height, width, 3) uint8. Pixels with a `tissue_weight` of 0 are unchanged, those between 0 and 1 are mixed.

    Raises
    ------
    NotNormalised
        No tissue, no stain that can be told, or a contrast that would have to be raised more than fourfold.
    """
    method, weight = find(target.method), tissue_weight(image)
    own = method.measure(_tissue(image, weight))
    if any(to > LARGEST_GAIN * of for to, of in zip(target.spreads, own.spreads, strict=True)):
        raise NotNormalised("stain too faint")
    before = image.astype(np.float32)
    changed = before + weight[..., None] * (method.apply(image, own, target) - before)
    return np.rint(changed).astype(np.uint8)


def restain(views: Image, target: Stains) -> tuple[Image, str]:
    """Give all views of one image the target's stain, or leave them as they are.

    Parameters
    ----------
    views
        (views, size, size, 3) uint8, RGB. They are measured together: a tile of glass alone has no stain of its own.
    target
        As in `normalise`.

    Returns
    -------
    views : numpy.ndarray
        Of equal shape.
    reason : str
        Why they were left; empty where they were not.
    """
    try:
        return normalise(views.reshape(-1, *views.shape[2:]), target).reshape(views.shape), ""
    except NotNormalised as reason:
        return views, str(reason)


def _tissue(image: Image, weight: NDArray[np.float32]) -> Pixels:
    inside = np.flatnonzero(weight)
    if len(inside) < LEAST_TISSUE * weight.size:
        raise NotNormalised("no tissue")
    return image.reshape(-1, 1, 3)[inside[:: -(-len(inside) // SAMPLE)]]
