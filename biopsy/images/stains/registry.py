"""The methods of stain normalisation by name. Each is registered in the file of its code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopsy.core.registry import Registry
from biopsy.images.preparation.record import Stains

Pixels = NDArray[np.uint8]  # (n, 1, 3), RGB, of tissue alone: what torchstain takes for an image
Image = NDArray[np.uint8]  # (height, width, 3), RGB


class NotNormalised(Exception):  # noqa: N818  (a finding, not an error)
    """An image whose stain cannot be measured; the text is the reason, as it is counted."""


def mean_of_numbers(measured: Sequence[Stains]) -> Stains:
    """Average each number over several images."""
    directions, spreads = (
        np.mean(n, axis=0) for n in ([m.directions for m in measured], [m.spreads for m in measured])
    )
    return Stains(method=measured[0].method, directions=numbers(directions), spreads=numbers(spreads))


def numbers(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, ...]:
    """Return plain floats, which JSON can hold."""
    return tuple(float(value) for value in values)


@dataclass(frozen=True)
class StainMethod:
    """One entry of the registry.

    Attributes
    ----------
    name
        What `stain.method` says.
    measure
        From tissue to its stain; raises `NotNormalised` where it cannot be told.
    apply
        From an image, the stain that its tissue has and the one that it is to have, to the changed image, 0 to 255.
        Glass is changed too; it is mixed back by the caller.
    description
        One sentence with its source.
    average
        From the stains of several images to their mean.
    """

    name: str
    measure: Callable[[Pixels], Stains]
    apply: Callable[[Image, Stains, Stains], NDArray[np.float32]]
    description: str
    average: Callable[[Sequence[Stains]], Stains] = mean_of_numbers


METHODS = Registry[StainMethod]("stain method", "stain.method", "none")
register, find = METHODS.add, METHODS.find
