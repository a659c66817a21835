"""Reinhard's colour transfer: mean and deviation of L*, a*, b*."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torchstain.numpy.normalizers import NumpyReinhardNormalizer

from biopsy.images.preparation.record import Stains
from biopsy.images.stains.registry import Image, NotNormalised, Pixels, StainMethod, numbers, register

LEAST_DEVIATION = 0.5  # in CIELAB, whose L* is 0 to 100; a flatter channel has no spread to scale


def measure(pixels: Pixels) -> Stains:
    """Return means and deviations."""
    found = NumpyReinhardNormalizer()
    found.fit(pixels)
    if min(found.target_stds) < LEAST_DEVIATION:
        raise NotNormalised("no spread of colour")
    return Stains(method="reinhard", directions=numbers(found.target_means), spreads=numbers(found.target_stds))


def apply(image: Image, own: Stains, target: Stains) -> NDArray[np.float32]:
    """Give an image the target's means and deviations."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    gain = np.divide(target.spreads, own.spreads)
    changed = (lab - own.directions) * gain + target.directions
    return np.asarray(cv2.cvtColor(changed.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1) * 255, np.float32)


register(StainMethod("reinhard", measure, apply, "Colour transfer in CIELAB (Reinhard et al., IEEE CG&A 21(5), 2001)."))
