"""What a program hands to `Model.predict`: a list of images, each of which is known by its type."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.errors import BiopsyError, DataError
from biopsy.serving.decoding import UNNAMED, Image

WAYS = "a path, the bytes of an image file, or a uint8 array (height, width, 3) in RGB"


def listed(images: Any) -> Iterator[Any]:
    """Iterate over images; those of a table are its column `path`.

    Raises
    ------
    DataError
        What was given is one image, a table without a column `path`, or nothing that holds images.
    """
    kind = type(images).__name__
    one = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike)
    if one or (isinstance(images, np.ndarray) and images.ndim not in (1, 4)):
        raise DataError(f"predict takes a list of images, and was given one ({kind}). Write predict([image]).")
    if isinstance(images, Mapping) or hasattr(images, "columns"):
        if "path" not in images:
            raise DataError(f"{kind} has no 'path', the name of the column that predict reads. Rename yours to path.")
        images = images["path"]
    try:
        return iter(images)
    except TypeError:
        raise DataError(f"predict takes a list of images, and was given {kind}. Each image is {WAYS}.") from None


def image_of(given: Any) -> Image | BiopsyError:
    """Return an image that `prepare_image` takes, or why what was given is none."""
    if isinstance(given, np.ma.MaskedArray):
        return DataError(f"{UNNAMED} is a masked array. Fill it first: image.filled(255) is white.")
    if isinstance(given, bytes | np.ndarray):
        return given
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        return Path(os.fsdecode(path)) if path else DataError(f"{UNNAMED} has an empty path")
    return DataError(f"{UNNAMED} must be {WAYS}. Got {type(given).__name__}.")
