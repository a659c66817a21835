"""Reinhard's colour transfer: mean and deviation of L*, a*, b*."""

from torchstain.numpy.normalizers import NumpyReinhardNormalizer

from biopsy.images.preparation.record import Stains
from biopsy.images.stains.registry import NotNormalised, Pixels, StainMethod, numbers, register

LEAST_DEVIATION = 0.5  # in CIELAB, whose L* is 0 to 100; a flatter channel has no spread to scale


def measure(pixels: Pixels) -> Stains:
    """Return means and deviations."""
    found = NumpyReinhardNormalizer()
    found.fit(pixels)
    if min(found.target_stds) < LEAST_DEVIATION:
        raise NotNormalised("no spread of colour")
    return Stains(method="reinhard", directions=numbers(found.target_means), spreads=numbers(found.target_stds))


def apply(pixels: Pixels, target: Stains) -> Pixels:
    """Give pixels the target's means and deviations."""
    found = NumpyReinhardNormalizer()
    found.target_means, found.target_stds = target.directions, target.spreads
    return found.normalize(pixels)


register(StainMethod("reinhard", measure, apply, "Colour transfer in CIELAB (Reinhard et al., IEEE CG&A 21(5), 2001)."))
