"""What `ingest` keeps of an image file: its size, hashes and brightness, never its pixels."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.sections.data import Ingest
from biopsy.images.decode import ImageError, check_size, hash_pixels, read_picture


@dataclass(frozen=True, slots=True)
class Facts:
    """What is kept of an image after it was decoded; `brightness` is the mean of all RGB values, 0-255.

    `black_rows` is the number of all-zero rows at an end, in a format without checksum that stores pixels as they are:
    a file that lost its end has them, too.
    """

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str
    pixels_sha256: str
    brightness: float
    format: str
    black_rows: int


class Failure(NamedTuple):
    """The parts of an error that are kept: the traceback of the error itself would keep the file's bytes in memory."""

    reason: str
    detail: str


def measure(path: Path, settings: Ingest) -> Facts:
    """Read one image and forget its pixels.

    Raises
    ------
    ImageError
        The file cannot be read as an image, or is smaller than `ingest.min_size`.
    """
    picture = read_picture(path, settings.max_pixels)
    height, width, _ = picture.pixels.shape
    check_size(path, picture.pixels, settings.min_size)
    brightness = float(picture.pixels.sum(dtype=np.uint64)) / picture.pixels.size
    return Facts(
        width=width,
        height=height,
        mode=picture.mode,
        bytes=len(picture.data),
        sha256=hashlib.sha256(picture.data).hexdigest(),
        pixels_sha256=hash_pixels(picture.pixels),
        brightness=round(brightness, 2),
        format=picture.format,
        black_rows=_black_rows(picture.pixels) if picture.format in ("TIFF", "BMP") else 0,
    )


def _black_rows(pixels: NDArray[np.uint8]) -> int:
    """Count them in the colour with most, since a TIFF may store colours one after the other; not in an unused one."""
    colours = np.asarray(pixels.any(axis=1)).T
    filled = [np.flatnonzero(rows) for rows in colours]
    return max((int(max(rows[0], len(pixels) - 1 - rows[-1])) for rows in filled if len(rows)), default=0)


def measure_all(folder: Path, paths: list[str], settings: Ingest) -> Iterator[Facts | Failure]:
    """Measure files in threads (decoders and hashes release the GIL); yield facts or what failed, in order."""

    def look(path: str) -> Facts | Failure:
        try:
            return measure(folder / path, settings)
        except ImageError as error:
            return Failure(error.reason, error.detail)

    cv2.setNumThreads(1)  # the images are the parallel unit
    # ThreadPool, not ThreadPoolExecutor: on Ctrl-C it does not finish the queue first.
    with ThreadPool(min(os.cpu_count() or 1, 16)) as pool:
        yield from pool.imap(look, paths, chunksize=8)
