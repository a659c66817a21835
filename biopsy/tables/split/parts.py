"""What training and evaluation both read: the table of one protocol's parts, and the pixels of its images."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from biopsy.core.errors import DataError
from biopsy.core.files import read_csv
from biopsy.core.layout import resized_path

ALIGNMENT = 64  # bytes, the most that TensorFlow asks for on any processor


def read_parts(labels: Path, split: Path, resized: Path, task: str) -> pd.DataFrame:
    """Join the labels with one protocol's split.

    Parameters
    ----------
    labels, split
        `data/interim/labels.csv` and `data/splits/<protocol>.csv`.
    resized
        The tree of resized images.
    task
        'binary' or 'multiclass': the column that becomes `target`.

    Returns
    -------
    pandas.DataFrame
        One row per image, sorted by image_id: the columns of both tables, `target` (int) and `file` (Path).

    Raises
    ------
    DataError
        An image of the split has no label, or no label of this task.
    """
    table = read_csv(split, ["image_id", "part"]).merge(
        read_csv(labels, ["image_id"]), on="image_id", how="left", validate="one_to_one"
    )
    table = table.sort_values("image_id", ignore_index=True)
    unlabelled = table[table["class"].isna() | (table[task].fillna(-1) < 0)]
    if len(unlabelled):
        first = unlabelled["image_id"].iloc[0]
        raise DataError(
            f"{split}: {len(unlabelled)} images, the first is {first}, have no {task} label in {labels}. "
            "Run `dvc repro`."
        )
    table["target"] = table[task].astype(int)
    table["file"] = pd.Series([resized / resized_path(row) for row in table.to_dict("records")], dtype=object)
    return table


def read_images(files: list[Path], size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Decode images of the resized tree, in parallel.

    Parameters
    ----------
    files
        PNG files of `size` x `size` pixels.
    size
        Side in pixels.
    out
        Array of shape (n, size, size, 3), uint8, to fill, for example a memory map; None makes one.

    Returns
    -------
    numpy.ndarray
        (n, size, size, 3), uint8, RGB.

    Raises
    ------
    DataError
        A file is missing, broken or of another size.
    """
    images = _aligned((len(files), size, size, 3)) if out is None else out

    def read(i: int) -> None:
        image = cv2.imread(str(files[i]), cv2.IMREAD_COLOR_RGB)
        if image is None or image.shape != (size, size, 3):
            found = (
                "cannot be read" if image is None else f"is {image.shape[1]}x{image.shape[0]} pixels, not {size}x{size}"
            )
            raise DataError(f"{files[i]} {found}. Run `dvc repro resize` to make it again.")
        images[i] = image

    with ThreadPoolExecutor() as pool:
        for _ in tqdm(pool.map(read, range(len(files))), "read", len(files), delay=2, unit="image"):
            pass
    return images


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Make a uint8 array that begins where TensorFlow wants its tensors to begin, so that it can be one."""
    count = math.prod(shape)
    memory = np.empty(count + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count].reshape(shape)
