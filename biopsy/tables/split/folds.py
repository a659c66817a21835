"""Folds of whole groups, none empty and each class balanced over them; and the parts that a tested fold makes."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biopsy.core.errors import DataError
from biopsy.core.protocol import Fold

NEAR = 0.15  # sizes are varied at random by up to this share, so that groups of similar size may change places

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def assign_folds(counts: Floats, fine: int, k: int, seed: int, fixed: Ints | None = None) -> Ints:
    """Give each group a fold, so that each class's images and groups are spread evenly.

    Class by class, the largest groups come first, near-ties in random order. Each goes to the fold with the fewest
    images of its class, among folds that hold less than their share of the class's groups.

    Parameters
    ----------
    counts : array of shape (groups, classes)
        Images of each class in each group.
    fine
        The first so many classes are the finest; a group belongs to the one with most of its images. The coarser ones
        that follow decide between folds that are equal.
    k
        How many folds, at most as many as there are groups.
    seed
        Of the order of near-ties, and of the numbering of the folds.
    fixed : array of shape (groups,)
        The fold that a group keeps, which is counted first; -1 where it gets one. None: all get one.

    Returns
    -------
    int array of shape (groups,)
        0 to k - 1; every fold has a group.
    """
    rng = np.random.default_rng(seed)
    sizes = counts.sum(axis=1) * rng.uniform(1 - NEAR, 1 + NEAR, len(counts))
    luck = rng.permutation(k)
    main, folds = counts[:, :fine].argmax(axis=1), np.full(len(counts), -1) if fixed is None else fixed.copy()
    free, images = folds < 0, np.zeros((k, counts.shape[1]))
    np.add.at(images, folds[~free], counts[~free])
    for label in sorted(set(main.tolist()), key=lambda label: (-counts[main == label].sum(), label)):
        members = np.flatnonzero(main == label)
        most, held = -(-len(members) // k), np.bincount(folds[members][~free[members]], minlength=k)
        shared = counts[members].sum(axis=0) > 0
        members = members[free[members]]
        for group in members[np.argsort(-sizes[members], kind="stable")]:
            order = np.lexsort(
                (luck, images.sum(axis=1), images[:, shared].sum(axis=1), images[:, label], held >= most)
            )
            fold = order[0]
            folds[group] = fold
            images[fold] += counts[group]
            held[fold] += 1
    return folds


def column_of(repeat: int) -> str:
    """Return the column of data/splits/<protocol>.csv that holds the folds of a repeat, counted from 1."""
    return f"repeat_{repeat}"


def parts_of(folds: pd.DataFrame, fold: Fold, path: Path | None = None) -> pd.DataFrame:
    """Turn folds into the parts of the training that tests one of them.

    Parameters
    ----------
    folds
        `image_id`, and for each repeat its column of folds (int or as text, from 1).
    fold
        The one that is tested; the next one, cyclically, validates.
    path
        The file that `folds` was read from, for the error.

    Returns
    -------
    DataFrame
        `image_id`, `part`.

    Raises
    ------
    DataError
        The column does not number the folds, or has none of this number.
    """
    column = pd.to_numeric(folds[column_of(fold.repeat)], errors="coerce")
    if not set(column) == set(range(1, max(int(column.max()) if len(column.dropna()) else 0, fold.index) + 1)):
        raise DataError(
            f"{path or 'the table of folds'}: column {column_of(fold.repeat)} must number the folds from 1. Run "
            "`dvc repro --force split`."
        )
    following = fold.index % int(column.max()) + 1
    parts = np.select([column == fold.index, column == following], ["test", "val"], "train")
    return folds[["image_id"]].assign(part=parts)
