"""A whole slide, read region by region: through OpenSlide, or tifffile for layouts that OpenSlide does not know."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import DataError, reason_of
from biopsy.core.extras import extra
from biopsy.images.slides.layout import CONVERT, Layout, mean_scale

Image = NDArray[np.uint8]
T = TypeVar("T")
PLAUSIBLE = (0.02, 20.0)  # micrometres per pixel; 352.8, say, is the 72 dpi of a program that did not know


class Slide:
    """An opened slide; (0, 0) is the corner of the scanned area, as in QuPath.

    Attributes
    ----------
    path, vendor
        The file, and the name of its layout.
    um_per_pixel
        Micrometres per pixel at full resolution; None where the file does not say, or says what cannot be.
    width, height
        In pixels at full resolution.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.vendor, self._layout = path, layout.vendor, layout
        self.width, self.height = layout.sizes[0]
        self._numbers = [i for i, size in enumerate(layout.sizes) if _is_whole(size, layout.sizes[0])]
        self.levels = [self.width / layout.sizes[i][0] for i in self._numbers]  # how much smaller each is
        said = layout.um_per_pixel
        self.um_per_pixel = said if said and PLAUSIBLE[0] <= said <= PLAUSIBLE[1] else None

    def level_for(self, shrink: float) -> int:
        """Return the smallest level that need not be enlarged for pixels `shrink` times as wide as those of level 0."""
        return max(i for i, level in enumerate(self.levels) if level <= max(shrink, 1) * 1.01)

    def region(self, x: int, y: int, width: int, height: int, size: tuple[int, int]) -> Image:
        """Read a rectangle, brought to a size by means over the covered area.

        Parameters
        ----------
        x, y, width, height
            In pixels at full resolution.
        size
            (width, height) of what is returned.

        Returns
        -------
        uint8 array of shape (height, width, 3)
            RGB, 0-255; white outside of what was scanned.

        Raises
        ------
        DataError
            These bytes of the file are damaged.
        """
        level = self.level_for(min(width / size[0], height / size[1]))
        shrink = self.levels[level]
        box = [round(x / shrink), round(y / shrink), max(1, round(width / shrink)), max(1, round(height / shrink))]
        try:
            image = self._layout.read(self._numbers[level], *box)
        except Exception as error:  # each library's own, one a kind of fault
            raise DataError(f"the tile at x {x}, y {y} cannot be read ({reason_of(error)})") from None
        if (box[2], box[3]) == size:
            return image
        method = cv2.INTER_AREA if box[2] >= size[0] else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _is_whole(size: tuple[int, int], first: tuple[int, int]) -> bool:
    """Tell whether a level is the first one, shrunk: some files list a label or a photograph among the levels."""
    least = max(whole / (part + 1) for whole, part in zip(first, size, strict=True))  # sizes may be rounded either way
    most = min(whole / max(part - 1, 0.5) for whole, part in zip(first, size, strict=True))
    return least <= 1.01 * most


def open_slide(path: Path) -> Slide:
    """Open a slide.

    Raises
    ------
    DataError
        It is missing, damaged, or of a layout or compression that is not read.
    MachineError
        The packages of the extra `slides` are missing.
    """
    with extra("slides"):
        import openslide
        import tifffile  # noqa: F401
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is a folder. Name a slide's file.")
    vendor = _tried(path, lambda: openslide.OpenSlide.detect_format(path))
    tiff = path.suffix.lower() in (".tif", ".tiff", ".btf")
    if vendor and not (tiff and vendor == "generic-tiff"):
        return Slide(path, _tried(path, lambda: ByOpenSlide(path)))
    if not tiff:
        raise DataError(f"{path} is not a slide that OpenSlide can read, or it is damaged. Copy it again. {CONVERT}")
    from biopsy.images.slides.tiff import ByTifffile, look_into

    levels, um, series = _tried(path, lambda: look_into(path))
    if vendor and not series:
        with suppress(openslide.OpenSlideError):  # of a compression that it does not know; tifffile names that
            found = ByOpenSlide(path)
            if levels <= len(found.sizes):  # OME files may keep their pyramid where OpenSlide does not look
                found.um_per_pixel = um or found.um_per_pixel
                return Slide(path, found)
    return Slide(path, _tried(path, lambda: ByTifffile(path, series)))


def _tried(path: Path, do: Callable[[], T]) -> T:
    """Put what a library raises about a file into a sentence."""
    try:
        return do()
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be opened as a slide ({reason_of(error)}). Copy it again. {CONVERT}") from None


class ByOpenSlide:
    """A slide that OpenSlide knows; see `Layout`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slide: Any = self._opened()
        about = self._slide.properties
        self.vendor = str(about["openslide.vendor"])
        said = [_number(about.get(f"openslide.mpp-{axis}")) for axis in "xy"]
        self.um_per_pixel = mean_scale(*said)
        # QuPath, too, counts from the corner of what was scanned; a MIRAX file's canvas is much larger.
        box = [about.get(f"openslide.bounds-{name}") for name in ("x", "y", "width", "height")]
        width, height = self._slide.dimensions
        self._x, self._y, width, height = [int(v) for v in box] if all(box) else [0, 0, width, height]
        self._shrinks = [float(shrink) for shrink in self._slide.level_downsamples]
        self.sizes = (
            self._slide.level_dimensions
            if not all(box)
            else [(round(width / shrink), round(height / shrink)) for shrink in self._shrinks]
        )

    def _opened(self) -> Any:
        import openslide

        return openslide.OpenSlide(self._path)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        """See `Layout`."""
        import openslide

        shrink = self._shrinks[level]
        place = self._x + round(x * shrink), self._y + round(y * shrink)
        try:
            rgba = np.asarray(self._slide.read_region(place, level, (width, height)))
        except openslide.OpenSlideError:
            self._slide.close()
            self._slide = self._opened()  # after an error, OpenSlide answers nothing else
            raise
        image = rgba[..., :3]
        if rgba[..., 3].min() < 255:
            image = np.where(rgba[..., 3:] == 0, 255, image)
        return np.ascontiguousarray(image, np.uint8)


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"[0-9.]+(e[-+]?\d+)?", text.strip().lower()) else None
