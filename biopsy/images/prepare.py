"""From a file to what a network sees: the one way that trees, tests and predictions share."""

from pathlib import Path

from biopsy.images.decode import read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.resize import Image, make_views
from biopsy.images.stain import restain


def prepare(source: Path | bytes, preparation: Preparation) -> Image:
    """Turn an image file into what the network sees.

    Parameters
    ----------
    source
        The file, or its bytes.
    preparation
        Of a tree, or of a model's card.

    Returns
    -------
    uint8 array of shape (views, size, size, 3)
        RGB, 0-255: the pixels that the stages `resize` and `stain` keep. One view, or one a tile.

    Raises
    ------
    ImageError
        The file cannot be read as an image.
    DataError
        The image is smaller than a tile.
    """
    name = source if isinstance(source, Path) else "the image"
    views = make_views(read_rgb(source, preparation.max_pixels), preparation.resize, name)
    return restain(views, preparation.stain)[0] if preparation.stain else views
