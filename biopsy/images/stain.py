"""Stain normalisation of one image at a time: Reinhard's and Macenko's, by torchstain, on tissue alone.

Glass keeps its colour: it has no stain, it would drag the statistics of an image with much of it, and moved along with
the tissue it would turn grey or purple.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer
from torchstain.numpy.utils import rgb2lab

# CIELAB. Glass is lighter than LIGHT and lies nearer than NEAR to the image's own white in a* and b*; SOFT units
# beyond, tissue counts in full, so that no hard edge shows. BreakHis's glass is grey, cream or greenish, by slide.
LIGHT, NEAR, SOFT = 75.0, 5.0, 5.0
LIGHTEST = 0.02  # the share of the pixels whose median is taken for white,
WHITEST_A, WHITEST_CHROMA = 8.0, 14.0  # unless it is more coloured than this: then no glass shows, and white is neutral
LEAST_TISSUE = 0.01  # of the image
LEAST_DEVIATION = 0.5  # Reinhard: in CIELAB, whose L* is 0 to 100; a flatter channel has no spread to scale
LARGEST_GAIN = 4.0  # more contrast than this would be noise, enlarged
TRANSPARENT = 0.15  # Macenko: optical density below which a pixel tells nothing of the stains (torchstain's beta)
LIGHT_SOURCE = 240  # Macenko: torchstain's Io
LEAST_ANGLE = 3.0  # Macenko: degrees between two stains

Image = NDArray[np.uint8]
Pixels = NDArray[np.uint8]  # (n, 1, 3): what torchstain takes for an image


class NotNormalised(Exception):  # noqa: N818  (a finding and not an error)
    """An image whose stain cannot be measured; the text is the reason, as it is counted."""


@dataclass(frozen=True)
class Stains:
    """What Reinhard or Macenko measures on an image, or the mean over several.

    Attributes
    ----------
    method
        'reinhard' or 'macenko'.
    directions
        Reinhard: the mean of L* (0 to 100), a*, b*. Macenko: the optical density (red, green, blue) of a unit of
        haematoxylin, then of eosin, each of length one; six numbers.
    spreads
        Reinhard: the deviations of L*, a*, b*. Macenko: the 99th percentile of the amount of each stain.
    """

    method: str
    directions: tuple[float, ...]
    spreads: tuple[float, ...]


def tissue_weight(image: Image) -> NDArray[np.float32]:
    """Say how far each pixel is tissue: 0 for glass (light, and coloured like the lightest), 1 for tissue.

    Parameters
    ----------
    image
        (height, width, 3) uint8, RGB.

    Returns
    -------
    numpy.ndarray
        (height, width) float32, 0 to 1, between them near the colour of glass.
    """
    lab = rgb2lab(image.astype(np.float32) / 255)  # in OpenCV's scale: L* 0 to 255, a* and b* about 128
    light, a, b = lab[..., 0] / 2.55, lab[..., 1] - 128, lab[..., 2] - 128
    lightest = light >= np.quantile(light, 1 - LIGHTEST)
    white_a, white_b = np.median(a[lightest]), np.median(b[lightest])
    if white_a > WHITEST_A or np.hypot(white_a, white_b) > WHITEST_CHROMA:
        white_a = white_b = np.float32(0)
    coloured = np.hypot(a - white_a, b - white_b) - NEAR
    return np.clip(np.maximum(LIGHT - light, coloured) / SOFT, 0, 1).astype(np.float32)


def measure(image: Image, method: str) -> Stains:
    """Measure the stain of one image's tissue.

    Raises
    ------
    NotNormalised
        No tissue, or none whose stain can be told.
    """
    return _measure(_tissue(image, tissue_weight(image)), method)


def mean_of(measured: Sequence[Stains]) -> Stains:
    """Average what was measured on several images; directions of stains keep the length one."""
    directions = np.mean([m.directions for m in measured], axis=0)
    if measured[0].method == "macenko":
        directions = _unit(directions.reshape(2, 3)).ravel()
    spreads = np.mean([m.spreads for m in measured], axis=0)
    return Stains(measured[0].method, tuple(directions.tolist()), tuple(spreads.tolist()))


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
        (height, width, 3) uint8. Where `tissue_weight` is 0 the pixels are the image's own, between 0 and 1 mixed.

    Raises
    ------
    NotNormalised
        No tissue, none whose stain can be told, or a contrast that would have to be enlarged more than fourfold.
    """
    weight = tissue_weight(image)
    pixels = _tissue(image, weight)
    own = _measure(pixels, target.method)
    if max(to / of for to, of in zip(target.spreads, own.spreads, strict=True)) > LARGEST_GAIN:
        raise NotNormalised("stain too faint")
    changed = _apply(pixels, target)[:, 0].astype(np.float32)
    inside = weight > 0
    share, before = weight[inside][:, None], image[inside].astype(np.float32)
    result = image.copy()
    result[inside] = np.rint(before + share * (changed - before)).astype(np.uint8)
    return result


def _tissue(image: Image, weight: NDArray[np.float32]) -> Pixels:
    inside = weight > 0
    if inside.mean() < LEAST_TISSUE:
        raise NotNormalised("no tissue")
    return image[inside][:, None]


def _measure(pixels: Pixels, method: str) -> Stains:
    if method == "reinhard":
        reinhard = NumpyReinhardNormalizer()
        reinhard.fit(pixels)
        if min(reinhard.target_stds) < LEAST_DEVIATION:
            raise NotNormalised("no spread of colour")
        return Stains(method, _numbers(reinhard.target_means), _numbers(reinhard.target_stds))
    density = -np.log((pixels.astype(float) + 1) / LIGHT_SOURCE)
    if (density.min(axis=-1) >= TRANSPARENT).mean() < LEAST_TISSUE:
        raise NotNormalised("stain too faint")
    macenko = NumpyMacenkoNormalizer()
    macenko.fit(pixels, Io=LIGHT_SOURCE, beta=TRANSPARENT)
    stains, most = macenko.HERef.T, macenko.maxCRef
    angle = np.degrees(np.arccos(np.clip(np.dot(*_unit(stains)), -1, 1)))
    if not (np.isfinite(stains).all() and angle >= LEAST_ANGLE and min(most) > 0):
        raise NotNormalised("stains not to be told apart")
    return Stains(method, _numbers(stains.ravel()), _numbers(most))


def _apply(pixels: Pixels, target: Stains) -> Pixels:
    if target.method == "reinhard":
        reinhard = NumpyReinhardNormalizer()
        reinhard.target_means, reinhard.target_stds = target.directions, target.spreads
        return reinhard.normalize(pixels)
    macenko = NumpyMacenkoNormalizer()
    macenko.HERef = np.array(target.directions).reshape(2, 3).T
    macenko.maxCRef = np.array(target.spreads)
    return macenko.normalize(pixels, Io=LIGHT_SOURCE, beta=TRANSPARENT, stains=False)[0]


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _numbers(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
