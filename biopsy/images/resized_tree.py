"""The tree of resized images: what an image of it depends on, and how it is made of its source."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from biopsy.core.code_digest import code_digest
from biopsy.core.errors import DataError
from biopsy.core.sections import Resize
from biopsy.images.decode import ImageError, hash_pixels, read_rgb
from biopsy.images.image_tree import Recipe, Row, build_tree
from biopsy.images.resize import Image, draw_structure, encode_png, resize_rgb

CODE = (
    "biopsy.images.resize",
    "biopsy.images.resized_tree",
)  # what makes the pixels; all images are made anew when it changes


def resize_all(
    labels: pd.DataFrame, images: Path, resized: Path, resume: Path, params: Resize, max_pixels: int
) -> Counter[str]:
    """Bring the resized tree up to date with the labels.

    Parameters
    ----------
    labels : DataFrame of n rows
        With `image_id`, `path`, `class`, `subtype`, `pixels_sha256`.
    images, resized
        The source folder, and the tree `<class>/<subtype>/<image_id>.png`.
    resume
        Holds the journal and the files that are not yet in the tree; on the tree's file system.
    params, max_pixels
        Size, aspect and structure, and the largest image to decode.

    Returns
    -------
    Counter
        `made`, `kept`, `removed` (files of the tree that belong to no row).

    Raises
    ------
    DataError
        A source that is missing, broken or changed since it was ingested.
    """
    method = f"{params.size} {params.aspect} {params.structure} {code_digest(*CODE)} opencv {cv2.__version__}"

    def recipe(row: Row) -> Recipe:
        depends = f"{row['pixels_sha256']} {method}"
        return Recipe(hashlib.sha256(depends.encode()).hexdigest(), lambda: (make(row), ""))

    def make(row: Row) -> bytes:
        square = resize_rgb(_read(images / row["path"], row["pixels_sha256"], max_pixels), params.size, params.aspect)
        return encode_png(draw_structure(square, params.structure))

    columns = ["image_id", "path", "pixels_sha256"]
    rows: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in labels[columns].to_numpy()]
    journal, staging = resume / "resize.jsonl", resume / "resized"
    return build_tree(rows, resized, journal=journal, staging=staging, recipe=recipe, title="resize")[0]


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
