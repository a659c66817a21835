"""What training and evaluation both read: the table of a protocol's parts, and the pixels of its images."""

import hashlib
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from biopsy.core.errors import DataError
from biopsy.core.files import read_csv
from biopsy.core.protocol import Fold
from biopsy.core.shards import files_of, read_file
from biopsy.tables.split.folds import column_of, parts_of

CHUNK = 64  # images in memory at once, where they are only hashed


def read_parts(
    labels: Path, split: Path, resized: Path, task: str, classes: Sequence[str], fold: Fold | None = None
) -> pd.DataFrame:
    """Join the labels with one protocol's split.

    Parameters
    ----------
    labels, split
        `data/interim/labels.csv` and `data/splits/<protocol>.csv`.
    resized
        The tree of resized images.
    task
        The column of labels.
    classes
        Its classes, in the order of the model's outputs.
    fold
        The tested fold of a cross-validation.

    Returns
    -------
    pandas.DataFrame
        One row per image, sorted by image_id: the labels, `part`, `target` (int, index into `classes`) and `file`
        (Path), for `read_file`.

    Raises
    ------
    DataError
        An image of the split has no label, or no label of this task.
    """
    parts = read_csv(split, ["image_id", column_of(fold.repeat) if fold else "part"])
    parts = parts_of(parts, fold, split) if fold else parts[["image_id", "part"]]
    table = parts.merge(read_csv(labels, ["image_id"]), on="image_id", how="left", validate="one_to_one")
    table = table.sort_values("image_id", ignore_index=True)
    place = {name: i for i, name in enumerate(classes)}
    if task not in table:
        raise DataError(f"{labels} has no column '{task}'. Run `dvc repro`.")
    unlabelled = table[~table[task].isin(classes)]
    if len(unlabelled):
        first = unlabelled["image_id"].iloc[0]
        raise DataError(
            f"{split}: {len(unlabelled)} images, the first is {first}, have no {task} label in {labels}. "
            "Run `dvc repro`."
        )
    table["target"] = table[task].map(place).astype(int)
    table["file"] = pd.Series(files_of(resized, table["image_id"]), dtype=object)
    return table


def cases_of(table: pd.DataFrame) -> np.ndarray:
    """Name the case of each row; the slide where it has none, the image where neither is known. (n,) text."""
    found = pd.Series("", table.index)
    for unit in ("case", "slide", "image_id"):
        found = found.where((found != "") | (table[unit] == ""), f"{unit} " + table[unit])
    return found.to_numpy(str)


def read_images(files: list[Path], size: int, views: int = 1, out: np.ndarray | None = None) -> np.ndarray:
    """Decode images of the resized tree, in parallel.

    Parameters
    ----------
    files
        n PNG files (`files_of`), each with `views` squares of `size` x `size` pixels, one below the other.
    size
        Side in pixels.
    views
        The tiles of an image, or 1.
    out
        A uint8 array of the shape below to fill, such as a memory map; None: a new one.

    Returns
    -------
    numpy.ndarray
        (n * views, size, size, 3), uint8, RGB: the views of the first image, then those of the second, and so on.

    Raises
    ------
    DataError
        A file is missing, broken or of another size.
    """
    images = np.empty((len(files) * views, size, size, 3), np.uint8) if out is None else out
    by_file = images.reshape(len(files), views * size, size, 3)

    def read(i: int) -> None:
        image = _decode(files[i])
        if image is None:
            raise DataError(f"{files[i]} cannot be read. Run `dvc repro resize` to make it again.")
        if image.shape != by_file.shape[1:]:  # resize may have run since the training, and then repeats nothing
            height, width = image.shape[:2]
            raise DataError(f"{files[i]} is {width}x{height} pixels, not {size}x{views * size}. Run `dvc repro`.")
        by_file[i] = image

    with ThreadPool() as pool:  # not ThreadPoolExecutor: a future for each of 300,000 images is 0.5 GB
        for _ in tqdm(pool.imap(read, range(len(files)), 8), "read", len(files), delay=2, unit="image"):
            pass
    return images


def read_views(files: list[Path], size: int, views: int) -> np.ndarray:
    """Do what `read_images` does, with one entry per image: (n, views, size, size, 3)."""
    return read_images(files, size, views).reshape(len(files), views, size, size, 3)


def hash_images(files: list[Path], size: int, views: int = 1) -> str:
    """Return the SHA-256 of all pixels of images of the resized tree, without holding them in memory together."""
    digest = hashlib.sha256()
    for start in range(0, len(files), CHUNK):
        digest.update(read_images(files[start : start + CHUNK], size, views).data)
    return digest.hexdigest()


def _decode(path: Path) -> np.ndarray | None:
    try:
        data = np.frombuffer(read_file(path), np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
