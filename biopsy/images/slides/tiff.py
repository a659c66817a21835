"""Plain and OME TIFF that OpenSlide does not take; only the tiles or strips under a region are decoded."""

import logging
import math
import re
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from biopsy.core.errors import DataError
from biopsy.images.slides.layout import CONVERT, mean_scale

Image = NDArray[np.uint8]
RGB = 2  # of the tag PhotometricInterpretation
READ = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA")  # without the package imagecodecs, of 60 MB
CACHED = 64 * 2**20  # bytes of decoded tiles or strips
UNITS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 2.54e4}
PER = {"CENTIMETER": 1e4, "INCH": 2.54e4}  # micrometres


class ByTifffile:
    """A TIFF, with or without a pyramid; see `Layout`."""

    vendor = "tiff"

    def __init__(self, path: Path, series: int = 0) -> None:
        """Open an image of the file.

        Raises
        ------
        DataError
            It is no 8-bit RGB image, or is compressed in a way that is not read.
        """
        self._file = tifffile.TiffFile(path)
        weakref.finalize(self, self._file.close)
        self._pages: list[Any] = [level.keyframe for level in self._file.series[series].levels]
        first = self._pages[0]
        for page in self._pages:
            if (str(page.dtype), page.planarconfig, page.photometric) != ("uint8", 1, RGB):
                about = f"{page.dtype}, {page.axes}, {_name(page.photometric)}"
                raise DataError(f"{path} has no 8-bit RGB image ({about}). {CONVERT}")
            method = _name(page.compression)
            if method not in READ:
                raise DataError(f"{path} is compressed as {method}, which is not read. {CONVERT}")
        self.sizes = [(int(page.imagewidth), int(page.imagelength)) for page in self._pages]
        self.um_per_pixel = _um_in_ome(self._file.ome_metadata or "", self.sizes[0]) or _um_in_tags(first)
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
        if piece is None:
            return None
        image = np.asarray(piece[0, ..., :3], np.uint8)
        return image if piece.shape[-1] == 3 else np.where(piece[0, ..., 3:] == 0, np.uint8(255), image)

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


def look_into(path: Path) -> tuple[int, float | None, int]:
    """Look at the largest image of a TIFF: the first may be a slide's label.

    Returns
    -------
    tuple
        Its levels, the micrometres per pixel of its OME metadata, and its place among the file's images.

    Raises
    ------
    DataError
        The file is cut off.
    """
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        with tifffile.TiffFile(path) as file:
            images = [[level.keyframe for level in series.levels] for series in file.series]
            sizes = [(int(pages[0].imagewidth), int(pages[0].imagelength)) for pages in images]
            number = max(range(len(sizes)), key=lambda i: (math.prod(sizes[i]), -i), default=0)
            levels = images[number] if images else []
            ends = [max(map(sum, zip(p.dataoffsets, p.databytecounts, strict=False)), default=0) for p in levels]
            if max(ends, default=0) > file.filehandle.size or any(
                re.search("invalid (page|value) offset", words) for words in said
            ):
                raise DataError(f"{path} is truncated. Copy it again.")
            return len(levels), _um_in_ome(file.ome_metadata or "", sizes[number]) if sizes else None, number
    finally:
        logger.removeFilter(keep)


def _um_in_ome(xml: str, size: tuple[int, int]) -> float | None:
    """Return the micrometres per pixel that OME metadata give for an image of a size (width, height)."""
    found = set()
    for tag in re.findall(r"<(?:\w+:)?Pixels\b([^>]*)", xml):
        about = {name: value.strip() for name, _, value in re.findall(r"""(\w+)\s*=\s*(["'])(.*?)\2""", tag)}
        if (about.get("SizeX"), about.get("SizeY")) == (str(size[0]), str(size[1])):
            found.add(mean_scale(_um(about, "X"), _um(about, "Y")))
    return found.pop() if len(found) == 1 else None


def _um(about: dict[str, str], axis: str) -> float | None:
    """Return the micrometres of a pixel along an axis; None where they are not given."""
    factor = UNITS.get(about.get(f"PhysicalSize{axis}Unit", "um").replace("μ", "µ"))
    try:
        return float(about[f"PhysicalSize{axis}"]) * factor if factor else None
    except (KeyError, ValueError):
        return None


def _um_in_tags(page: Any) -> float | None:
    """Return the micrometres per pixel of the tags XResolution, YResolution and ResolutionUnit."""
    tags = page.tags
    if not {"XResolution", "YResolution", "ResolutionUnit"} <= {tag.name for tag in tags}:
        return None
    unit = PER.get(_name(tags["ResolutionUnit"].value))
    pixels = [tags[f"{axis}Resolution"].value for axis in "XY"]
    return mean_scale(*(unit * per[1] / per[0] if unit and per[0] else None for per in pixels))


def _name(value: Any) -> str:
    """Return the name of a tag's value; the number itself where it has none."""
    return str(getattr(value, "name", value))
