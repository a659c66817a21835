"""The tree of resized images: what an image of it depends on, and how it is made of its source."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biopsy.core.code_digest import code_digest
from biopsy.core.errors import DataError
from biopsy.images.decode import ImageError, hash_pixels, read_rgb
from biopsy.images.image_tree import Recipe, Row, build_tree
from biopsy.images.preparation.record import Preparation
from biopsy.images.resize import Image, encode_png, make_views

CODE = (
    "biopsy.images.resize",
    "biopsy.images.resized_tree",
)  # what makes the pixels; all images are made again when it changes


def resize_all(
    labels: pd.DataFrame, images: Path, resized: Path, resume: Path, preparation: Preparation
) -> Counter[str]:
    """Bring the resized tree up to date with the labels.

    Parameters
    ----------
    labels : DataFrame of n rows
        With `image_id`, `path`, `pixels_sha256`.
    images, resized
        The source folder, and the tree `<image_id>.png`.
    resume
        Holds the journal and the files that are not yet in the tree; on the tree's file system.
    preparation
        Without a stain, which is fitted on these images.

    Returns
    -------
    Counter
        `made`, `kept`, `removed` (files of the tree that belong to no row).

    Raises
    ------
    DataError
        A source that is missing, broken, changed since it was ingested, or smaller than a tile.
    """
    code = f"{code_digest(*CODE)} opencv {cv2.__version__}"

    def make(row: Row) -> tuple[bytes, str]:
        path = images / row["path"]
        image = _read(path, row["pixels_sha256"], preparation.max_pixels)
        return encode_png(np.concatenate(make_views(image, preparation.resize, path))), ""

    def recipe(row: Row) -> Recipe:
        return Recipe(f"{row['pixels_sha256']} {code}", lambda: make(row))

    columns = ["image_id", "path", "pixels_sha256"]
    rows: list[Row] = [dict(zip(columns, row, strict=True)) for row in labels[columns].to_numpy()]
    return build_tree(rows, resized, resume / "resized", preparation, recipe, "resize")[0]


def _read(path: Path, pixels_sha256: str, max_pixels: int) -> Image:
    """Read a source image and hold it against what was ingested."""
    try:
        image = read_rgb(path, max_pixels)
    except ImageError as error:
        raise DataError(
            f"{path} {error.detail}, though it passed ingest. Run `dvc repro` to ingest it again."
        ) from None
    if hash_pixels(image) != pixels_sha256:
        raise DataError(f"{path} has other pixels than when it was ingested. Run `dvc repro` to ingest it again.")
    return image
