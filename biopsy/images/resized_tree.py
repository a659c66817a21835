"""The tree of resized images: what each image depends on, and how it is made from its source."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biopsy.core.code_digest import code_digest
from biopsy.core.engine import LOCAL, Engine, check_opencv
from biopsy.core.errors import DataError
from biopsy.images.decode import ImageError, hash_pixels, read_rgb
from biopsy.images.image_tree import Make, Maker, Recipe, Row, build_tree, run_here
from biopsy.images.preparation.record import Preparation
from biopsy.images.resize import Image, encode_png, make_views

CODE = (
    "biopsy.images.resize",
    "biopsy.images.resized_tree",
)  # what makes the pixels; all images are made again when it changes
BATCH = 8  # images in a task for another machine: sending them one by one cost three times as much CPU time here


def resize_all(
    labels: pd.DataFrame, images: Path, resized: Path, resume: Path, preparation: Preparation, engine: Engine = LOCAL
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
    engine
        Where the images are made. Files are always read and written here, so other machines need not see this one's
        folders.

    Returns
    -------
    Counter
        `made`, `kept`, `removed` (files of the tree that belong to no row).

    Raises
    ------
    DataError
        A source that is missing, broken, or changed since it was ingested.
    """
    code = f"{code_digest(*CODE)} opencv {cv2.__version__}"

    def recipe(row: Row) -> Recipe:
        path, pixels = images / row["path"], row["pixels_sha256"]
        return Recipe(f"{pixels} {code}", Shrink(path, path, pixels, preparation, cv2.__version__))

    def elsewhere(makes: Sequence[Make]) -> list[tuple[bytes, str]]:
        sent = [replace(make, source=_content(make.path)) for make in makes if isinstance(make, Shrink)]
        made: list[tuple[bytes, str]] = engine.call(run_here, sent)
        return made

    columns = ["image_id", "path", "pixels_sha256"]
    rows: list[Row] = [dict(zip(columns, row, strict=True)) for row in labels[columns].to_numpy()]
    here = engine is LOCAL
    maker = Maker(recipe, "resize") if here else Maker(recipe, "resize", elsewhere, engine.width, BATCH)
    return build_tree(rows, resized, resume / "resized", preparation, maker)[0]


@dataclass(frozen=True)
class Shrink:
    """One image to make, here or on another machine.

    Attributes
    ----------
    source
        The file, or what is in it.
    path
        What errors call it.
    pixels_sha256
        Of the pixels that were ingested.
    preparation
        How it is made.
    opencv
        The version that makes the others; another one might round pixels differently.
    """

    source: Path | bytes
    path: Path
    pixels_sha256: str
    preparation: Preparation
    opencv: str

    def __call__(self) -> tuple[bytes, str]:
        """Return the PNG. Raises `DataError` of the source, or `MachineError` on a machine with another OpenCV."""
        check_opencv(self.opencv)
        cv2.setNumThreads(1)  # the images are the parallel unit
        image = _read(self.source, self.path, self.pixels_sha256, self.preparation.max_pixels)
        return encode_png(np.concatenate(make_views(image, self.preparation.resize))), ""


def _content(path: Path) -> Path | bytes:
    """Read a file for another machine; if that fails, return the path, so that decoding reports the error."""
    try:
        return path.read_bytes()
    except OSError:
        return path


def _read(source: Path | bytes, path: Path, pixels_sha256: str, max_pixels: int) -> Image:
    """Read a source image and compare it with what was ingested."""
    try:
        image = read_rgb(source, max_pixels)
    except ImageError as error:
        raise DataError(
            f"{path} {error.detail}, though it passed ingest. Run `dvc repro` to ingest it again."
        ) from None
    if hash_pixels(image) != pixels_sha256:
        raise DataError(f"{path} has other pixels than when it was ingested. Run `dvc repro` to ingest it again.")
    return image
