"""The probability at any place of a slide, of the tiles that cover it; written as a pyramid that viewers open."""

import hashlib
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import tifffile
from numpy.typing import NDArray

from biopsy.core.files import atomic_file
from biopsy.images.slides.tissue import Cut

LOST = -1.0  # in place of a probability, where no tile could be read
FINEST = 8  # pixels of the pyramid from one tile to the next, at least; all in between is constant
SIDE = 256  # pixels of a piece of the file
STRIP = 64  # rows of places that are looked up together: a slide may have millions of tiles
TINY = 1e-9  # of a tile: places on an edge belong to one side, whatever the rounding

Numbers = NDArray[np.floating[Any]]
Places = NDArray[np.int64]


class Heat:
    """A number for each tile of the grid.

    Attributes
    ----------
    cut, size
        How the tiles lie; width and height of the slide in pixels at full resolution.
    values : float32 array of shape (rows, columns)
        A probability, `LOST`, or NaN where no tile was added.
    """

    def __init__(self, cut: Cut, size: tuple[int, int]) -> None:
        self.cut, self.size = cut, size
        self.values = np.full(cut.grid(*size), np.nan, np.float32)

    def add(self, x: int, y: int, value: float) -> None:
        """Keep the probability of the tile with this corner; `LOST` where it has none."""
        right, down = self.cut.stride
        self.values[round(y / down), round(x / right)] = value

    def at(self, x: Numbers, y: Numbers) -> NDArray[np.float32]:
        """Return the mean over the tiles that cover each place.

        Parameters
        ----------
        x, y : float arrays of shape (w,) and (h,)
            Columns and rows, in pixels at full resolution.

        Returns
        -------
        float32 array of shape (h, w)
            0 to 1; NaN where no tile lies, `LOST` where none of them has a probability.
        """
        if len(y) > STRIP:
            return np.concatenate([self.at(x, y[start : start + STRIP]) for start in range(0, len(y), STRIP)])
        (rows, columns), (right, down), cut = self.values.shape, self.cut.stride, self.cut
        left, end, x_of = _covering(x, cut.width, right, columns)
        top, bottom, y_of = _covering(y, cut.height, down, rows)
        first_row, first = top.min(), left.min()
        window = self.values[first_row : bottom.max(), first : end.max()]
        known, tried = window >= 0, ~np.isnan(window)
        if not tried.any():  # most of a slide
            return np.full((len(y), len(x)), np.nan, np.float32)

        def over(layer: NDArray[Any]) -> Numbers:
            """Sum a layer over the tiles that cover each place, by sums over all that lie above and to the left."""
            sums = np.pad(layer.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            above, below = sums[top - first_row], sums[bottom - first_row]
            return (below - above)[:, end - first] - (below - above)[:, left - first]

        count = over(known)
        mean = np.clip(over(np.where(known, window, 0.0)) / np.maximum(count, 1), 0, 1)
        found = np.where(count > 0, mean, np.where(over(tried) > 0, LOST, np.nan)).astype(np.float32)
        return found[y_of][:, x_of]


def _covering(places: Numbers, side: float, stride: float, count: int) -> tuple[Places, Places, Places]:
    """Return, along one axis, each first tile that covers a place, the first after it that does not, and whose it is.

    Neighbours are covered by the same tiles, and stand here once.
    """
    first = (np.floor((places - side) / stride + TINY) + 1).clip(0, count).astype(np.int64)
    after = (np.floor(places / stride + TINY) + 1).clip(0, count).astype(np.int64)
    _, index, back = np.unique(first + after, return_index=True, return_inverse=True)  # both grow with the place
    return first[index], after[index], back


def write_pyramid(path: Path, heat: Heat, words: str) -> int:
    """Write an OME-TIFF of probabilities (float32, NaN where there is none), piece by piece; equal heat, equal bytes.

    Its corner is the slide's corner and its pixels are `shrink` of the slide's wide, in micrometres where those of the
    slide are known, so that QuPath and Fiji lay it on the slide. The coarsest level still has a pixel a tile.

    Parameters
    ----------
    path
        The file.
    heat
        What to write.
    words
        What the numbers are.

    Returns
    -------
    int
        `shrink`, a power of two.
    """
    finest = min(heat.cut.stride)
    shrink = 2 ** max(0, math.floor(math.log2(finest / FINEST)))
    steps = [shrink]
    while steps[-1] * 2 <= finest and max(heat.size) / steps[-1] > 2 * SIDE:
        steps.append(steps[-1] * 2)
    shapes = [(math.ceil(heat.size[1] / step), math.ceil(heat.size[0] / step)) for step in steps]
    of_this = f"{words} {hashlib.sha256(heat.values.data).hexdigest()}"
    about = {"axes": "YX", "Description": words, "UUID": str(uuid5(NAMESPACE_URL, of_this))}  # else drawn at random
    if um := heat.cut.slide_um:
        for axis in "XY":
            about |= {f"PhysicalSize{axis}": um * shrink, f"PhysicalSize{axis}Unit": "µm"}
    large = math.prod(shapes[0]) * 4 > 2**31
    with atomic_file(path) as temporary, tifffile.TiffWriter(temporary, ome=True, bigtiff=large) as file:
        for number, (step, shape) in enumerate(zip(steps, shapes, strict=True)):
            scale: dict[str, Any] = (
                {"resolution": (1e4 / (um * step),) * 2, "resolutionunit": "CENTIMETER"} if um else {}
            )
            file.write(
                _pieces(heat, step, shape), shape=shape, dtype="<f4", tile=(SIDE, SIDE), photometric="minisblack",
                compression="deflate", subifds=0 if number else len(steps) - 1, subfiletype=int(number > 0),
                metadata=None if number else about, software=False, **scale,
            )  # fmt: skip
    return shrink


def _pieces(heat: Heat, step: int, shape: tuple[int, int]) -> Iterator[bytes]:
    """Yield the pieces of one level, row by row, compressed."""
    blank = zlib.compress(np.full((SIDE, SIDE), np.nan, "<f4").tobytes())
    for top in range(0, shape[0], SIDE):
        y = (np.arange(top, top + SIDE) + 0.5) * step
        for left in range(0, shape[1], SIDE):
            piece = heat.at((np.arange(left, left + SIDE) + 0.5) * step, y)
            piece[piece == LOST] = np.nan
            yield blank if np.isnan(piece).all() else zlib.compress(piece.astype("<f4").tobytes())
