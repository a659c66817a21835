"""Where a slide has tissue, and the tiles there."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import DataError
from biopsy.images.slides.reader import Slide

SIDE = 2000  # pixels of the longer side of the overview
BLOCK = 2048  # pixels of a level that are read at once
SMALLEST = 16  # pixels of the overview: smaller blocks are not divided further where the file is damaged
SHARE = 0.5  # of a tile that must be tissue
# Bounds of Otsu's threshold, of 255: it always splits in two, even glass alone, or pale and dark tissue. Half of 36
# real BreakHis images had a tenth of their pixels below 17.
THRESHOLDS = (8, 15)
DARKEST = 30  # of 255: what is darker was not scanned, and black has any saturation


@dataclass(frozen=True)
class Cut:
    """How tiles are cut of one slide.

    Attributes
    ----------
    width, height
        Of a tile, in pixels at full resolution.
    size
        (width, height) in pixels to which it is read.
    slide_um, um
        Micrometres per pixel of the slide and of what is read; None where it is not known.
    overlap
        The share of a tile's side, 0 to below 1, that the next tile also covers.
    """

    width: float
    height: float
    size: tuple[int, int]
    slide_um: float | None
    um: float | None
    overlap: float = 0.0

    @property
    def stride(self) -> tuple[float, float]:
        """From one tile to the next, right and down, in pixels at full resolution."""
        return self.width * (1 - self.overlap), self.height * (1 - self.overlap)

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Count the rows and columns of whole tiles in a slide of this width and height in pixels."""
        right, down = self.stride
        return int((height - self.height) / down + 1 + 1e-6), int((width - self.width) / right + 1 + 1e-6)


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a slide in pixels at full resolution, and the share of it that is tissue (0 to 1)."""

    x: int
    y: int
    width: int
    height: int
    tissue: float


@dataclass(frozen=True)
class Overview:
    """A slide at a glance.

    Attributes
    ----------
    image : uint8 array of shape (height, width, 3)
        RGB.
    tissue : bool array of shape (height, width)
        What cannot be read counts as tissue, so that its tiles become rows that say so.
    step
        Pixels at full resolution per pixel of the overview.
    """

    image: NDArray[np.uint8]
    tissue: NDArray[np.bool_]
    step: float


def look_over(slide: Slide) -> Overview:
    """Make the overview, block by block: a slide without a pyramid does not fit into memory."""
    step = max(1.0, max(slide.width, slide.height) / SIDE)
    width, height = max(1, int(slide.width / step)), max(1, int(slide.height / step))
    image, unread = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
    side = max(16, int(BLOCK * slide.levels[slide.level_for(step)] / step))
    blocks = [(left, top, side) for top in range(0, height, side) for left in range(0, width, side)]
    while blocks:
        left, top, side = blocks.pop()
        right, bottom = min(left + side, width), min(top + side, height)
        x, y = round(left * step), round(top * step)
        box = x, y, round(right * step) - x, round(bottom * step) - y
        try:
            image[top:bottom, left:right] = slide.region(*box, (right - left, bottom - top))
        except DataError:
            half = -(-side // 2)
            if half < SMALLEST:
                unread[top:bottom, left:right] = True
            else:  # what is damaged is mostly less than a block
                corners = [(x, y, half) for y in (top, top + half) for x in (left, left + half)]
                blocks += [corner for corner in corners if corner[0] < right and corner[1] < bottom]
    return Overview(image, _tissue(image, ~unread) | unread, step)


def _tissue(image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Split by Otsu's method on the saturation: glass is grey, stained tissue is not."""
    _, saturation, value = cv2.split(cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), 5))
    scanned = np.asarray((value > DARKEST) & known)
    if not scanned.any():
        return scanned
    otsu = cv2.threshold(np.ascontiguousarray(saturation[scanned]), 0, 255, cv2.THRESH_OTSU)[0]
    return np.asarray((saturation > np.clip(otsu, *THRESHOLDS)) & scanned)


def cut(slide: Slide, overview: Overview, cutting: Cut) -> Iterator[Tile]:
    """Yield the tiles with enough tissue, row by row; whole ones only. The grid keeps fractions."""
    width, height = cutting.width, cutting.height
    (right_by, down_by), (down, across) = cutting.stride, cutting.grid(slide.width, slide.height)
    sums, step = cv2.integral(overview.tissue.astype(np.uint8)), overview.step
    rows, columns = sums.shape[0] - 1, sums.shape[1] - 1
    for row in range(down):
        y = round(row * down_by)
        top = min(int(y / step), rows - 1)
        bottom = min(max(round((y + height) / step), top + 1), rows)
        for column in range(across):
            x = round(column * right_by)
            left = min(int(x / step), columns - 1)
            right = min(max(round((x + width) / step), left + 1), columns)
            found = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
            share = float(found) / ((bottom - top) * (right - left))
            if share >= SHARE:
                yield Tile(x, y, round(width), round(height), round(share, 4))
