"""What `reader.py` asks of each way of reading slides, and what these ways share."""

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
SQUARE = 1.1  # how much wider than high a pixel may be, or higher than wide: tiles would be stretched
CONVERT = "Convert it, for example with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg`."


class Layout(Protocol):
    """One way of reading slides.

    Attributes
    ----------
    vendor
        The layout's name.
    um_per_pixel
        Of level 0; None where the file does not say.
    sizes
        Width and height in pixels of each level, the largest first.
    """

    vendor: str
    um_per_pixel: float | None
    sizes: list[tuple[int, int]]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        """Return (height, width, 3) RGB of one level, in its own pixels; white outside. May raise any exception."""


def mean_scale(across: float | None, down: float | None) -> float | None:
    """Return the micrometres of a pixel from its width and height; None where unknown, or not square."""
    if not across or not down or min(across, down) <= 0 or not 1 / SQUARE <= across / down <= SQUARE:
        return None
    return math.sqrt(across * down)
