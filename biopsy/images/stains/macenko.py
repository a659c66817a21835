"""Macenko's stain separation: the directions of haematoxylin and eosin in optical density, and their amounts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from biopsy.images.looks.tissue import LEAST_TISSUE
from biopsy.images.preparation.record import Stains
from biopsy.images.stains.registry import NotNormalised, Pixels, StainMethod, mean_of_numbers, numbers, register

TRANSPARENT = 0.15  # optical density below which a pixel tells nothing of the stains (torchstain's beta)
LIGHT_SOURCE = 240  # torchstain's Io
LEAST_ANGLE = 3.0  # degrees between two stains


def measure(pixels: Pixels) -> Stains:
    """Return the two directions and the 99th percentile of each amount."""
    density = -np.log((pixels.astype(float) + 1) / LIGHT_SOURCE)
    if (density.min(axis=-1) >= TRANSPARENT).mean() < LEAST_TISSUE:
        raise NotNormalised("stain too faint")
    found = NumpyMacenkoNormalizer()
    found.fit(pixels, Io=LIGHT_SOURCE, beta=TRANSPARENT)
    stains, most = found.HERef.T, found.maxCRef
    angle = np.degrees(np.arccos(np.clip(np.dot(*_unit(stains)), -1, 1)))
    if not (np.isfinite(stains).all() and angle >= LEAST_ANGLE and min(most) > 0):
        raise NotNormalised("stains that cannot be separated")
    return Stains(method="macenko", directions=numbers(stains.ravel()), spreads=numbers(most))


def apply(pixels: Pixels, target: Stains) -> Pixels:
    """Give pixels the target's stains in the target's amounts."""
    found = NumpyMacenkoNormalizer()
    found.HERef = np.array(target.directions).reshape(2, 3).T
    found.maxCRef = np.array(target.spreads)
    return found.normalize(pixels, Io=LIGHT_SOURCE, beta=TRANSPARENT, stains=False)[0]


def average(measured: Sequence[Stains]) -> Stains:
    """Average; the directions keep the length one."""
    mean = mean_of_numbers(measured)
    directions = _unit(np.reshape(mean.directions, (2, 3))).ravel()
    return mean.model_copy(update={"directions": numbers(directions)})


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


register(
    StainMethod("macenko", measure, apply, "Stain separation in optical density (Macenko et al., ISBI 2009).", average)
)
