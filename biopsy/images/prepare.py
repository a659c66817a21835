"""From a file to what a network sees: the one way that trees, tests and predictions share."""

from pathlib import Path

import numpy as np

from biopsy.core.errors import DataError
from biopsy.images.decode import check_size, read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.resize import Image, make_views
from biopsy.images.stain import restain


def prepare(source: Path | bytes | Image, preparation: Preparation) -> Image:
    """Turn an image into what the network sees.

    Parameters
    ----------
    source
        The file, its bytes, or its pixels: uint8 (height, width, 3), RGB.
    preparation
        Of a tree, or of a model's card.

    Returns
    -------
    uint8 array of shape (views, size, size, 3)
        RGB, 0-255: the pixels that the stages `resize` and `stain` keep. One view, or one a tile.

    Raises
    ------
    ImageError, DataError
        As `read_pixels`.
    """
    views = make_views(read_pixels(source, preparation), preparation.resize)
    return restain(views, preparation.stain)[0] if preparation.stain else views


def read_pixels(source: Path | bytes | Image, preparation: Preparation) -> Image:
    """Read what `prepare` takes; return its pixels, uint8 (height, width, 3), RGB.

    Raises
    ------
    ImageError
        The file cannot be read as an image, or the image is smaller than `ingest.min_size`.
    DataError
        An array is no image.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise DataError(
                f"an image array must be uint8 of shape (height, width, 3). Got {source.dtype} {source.shape}."
            )
        pixels = source
    else:
        pixels = read_rgb(source, preparation.max_pixels)
    check_size(source, pixels, preparation.min_size)
    return pixels
