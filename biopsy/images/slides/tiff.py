"""Plain and OME TIFF that OpenSlide does not take; only the tiles or strips under a region are decoded."""

import logging
import re
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from biopsy.core.errors import DataError
from biopsy.images.slides.reader import CONVERT

Image = NDArray[np.uint8]
READ = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA")  # without the package imagecodecs, of 60 MB
CACHED = 64 * 2**20  # bytes of decoded tiles or strips
UNITS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}
PER = {"CENTIMETER": 1e4, "INCH": 2.54e4}  # micrometres


class ByTifffile:
    """A TIFF, with or without a pyramid; see `Layout`."""

    vendor = "tiff"

    def __init__(self, path: Path) -> None:
        """Raises `DataError` where it has no 8-bit RGB image, or is compressed in a way that is not read."""
        self._file = tifffile.TiffFile(path)
        weakref.finalize(self, self._file.close)
        self._pages: list[Any] = [level.keyframe for level in self._file.series[0].levels]
        first = self._pages[0]
        for page in self._pages:
            if page.dtype != np.uint8 or page.samplesperpixel not in (3, 4) or page.planarconfig != 1:
                raise DataError(f"{path} has no 8-bit RGB image ({page.dtype}, {page.axes}). {CONVERT}")
            method = getattr(page.compression, "name", page.compression)  # a number that has no name
            if method not in READ:
                raise DataError(f"{path} is compressed as {method}, which is not read. {CONVERT}")
        self.sizes = [(int(page.imagewidth), int(page.imagelength)) for page in self._pages]
        self.um_per_pixel = _um_in_ome(self._file.ome_metadata or "") or _um_in_tags(first)
        largest = max(self._piece(page)[0] * self._piece(page)[1] * page.samplesperpixel for page in self._pages)
        if largest > CACHED:
            raise DataError(f"{path} is stored in pieces of {largest:,} bytes, too large to read. {CONVERT}")
        self._decoded = lru_cache(max(1, CACHED // largest))(self._decode)

    @staticmethod
    def _piece(page: Any) -> tuple[int, int]:
        """Return the width and height in pixels of a tile or strip."""
        if page.is_tiled:
            return int(page.tilewidth), int(page.tilelength)
        return int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))

    def _decode(self, level: int, index: int) -> Image | None:
        page = self._pages[level]
        stream = self._file.filehandle
        stream.seek(page.dataoffsets[index])
        data = stream.read(page.databytecounts[index])
        piece = page.decode(data, index)[0]
        return None if piece is None else np.asarray(piece[0, ..., :3], np.uint8)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        """See `Layout`."""
        out = np.full((height, width, 3), 255, np.uint8)
        page_width, page_height = self.sizes[level]
        wide, high = self._piece(self._pages[level])
        columns = -(-page_width // wide)
        for row in range(y // high, -(-min(y + height, page_height) // high)):
            for column in range(x // wide, -(-min(x + width, page_width) // wide)):
                piece = self._decoded(level, row * columns + column)
                if piece is None:  # a sparse file has no bytes here
                    continue
                left, top = column * wide, row * high
                a, b = max(x, left), max(y, top)
                c, d = min(x + width, left + piece.shape[1]), min(y + height, top + piece.shape[0])
                out[b - y : d - y, a - x : c - x] = piece[b - top : d - top, a - left : c - left]
        return out


def look_into(path: Path) -> tuple[int, float | None]:
    """Return the levels of a TIFF, and the micrometres per pixel of its OME metadata. Raises `DataError` if cut off."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        with tifffile.TiffFile(path) as file:
            levels = [level.keyframe for level in file.series[0].levels] if file.series else []
            ends = [max(map(sum, zip(p.dataoffsets, p.databytecounts, strict=False)), default=0) for p in levels]
            if max(ends, default=0) > file.filehandle.size or any(
                re.search("invalid (page|value) offset", words) for words in said
            ):
                raise DataError(f"{path} is truncated. Copy it again.")
            return len(levels), _um_in_ome(file.ome_metadata or "")
    finally:
        logger.removeFilter(keep)


def _um_in_ome(xml: str) -> float | None:
    """Return the micrometres per pixel that OME metadata give for x."""
    size, unit = re.search(r'PhysicalSizeX="([0-9.]+)"', xml), re.search(r'PhysicalSizeXUnit="([^"]+)"', xml)
    factor = UNITS.get(unit[1].replace("μ", "µ") if unit else "um")
    return float(size[1]) * factor if size and factor else None


def _um_in_tags(page: Any) -> float | None:
    """Return the micrometres per pixel of the tags XResolution and ResolutionUnit."""
    tags = page.tags
    if "XResolution" not in tags or "ResolutionUnit" not in tags:
        return None
    per, unit = tags["XResolution"].value, PER.get(tags["ResolutionUnit"].value.name)
    return unit * per[1] / per[0] if unit and per[0] else None
