"""Divide the images into train, val and test by a named protocol.

Every function works on the table sorted by `image_id` and on numbers given in that order, so that neither the order of
the rows nor the names of classes and groups can change a split. The seed is derived from the protocol's name: adding a
protocol to the list leaves the others' splits alone.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from biopsy.core.errors import DataError, some
from biopsy.core.rawcsv import read_records
from biopsy.core.sections import Split
from biopsy.core.text import fold, id_key
from biopsy.tables.split.search import assign_groups

PARTS = ("train", "val", "test")
FOLD_COLUMNS = ("filename", "maginfication", "number", "split")  # the source's own spelling

Parts = NDArray[np.str_]
Codes = NDArray[np.int64]


def make_split(
    labels: pd.DataFrame,
    tasks: Sequence[str],
    protocol: str,
    shares: Split,
    seed: int,
    fold_table: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Give every image its part.

    Parameters
    ----------
    labels : DataFrame of n rows
        With `image_id`, `path`, `slide`, `case`, `pixels_sha256`, and a column of text for each of `tasks`.
    tasks
        The columns of labels to stratify by.
    protocol
        `image`, `slide`, `case`, `fold1`, or one fold of k such as `case-1of5`.
    shares
        The parts' sizes; a k-fold split has 1/k for test, 1/k for val and the rest for train.
    seed
        `params.seed`.
    fold_table
        What `read_fold_table` returned; for `fold1` only.

    Returns
    -------
    DataFrame of n rows
        `image_id`, `part` ("train", "val" or "test"), sorted by `image_id`.

    Raises
    ------
    DataError
        Where the protocol cannot be had from this table.

    Notes
    -----
    - Stratified by all labels of an image together.
    - `slide` and `case` keep each group, and all images of equal pixels, on one side.
    - Invariant to the order of the rows and to the names of classes and groups.
    """
    table = labels.sort_values("image_id", ignore_index=True)
    if len(table) < len(PARTS):
        raise DataError(f"{len(table)} image(s) cannot fill three parts. Point data.source at more images.")
    base, _, fold = protocol.partition("-")
    if base == "fold1":
        parts = _official(table, tasks, shares, fold_table, _seed(seed, base))
    elif fold:
        index, folds = map(int, fold.split("of"))
        parts = _k_fold(table, strata(table, tasks), base, index, folds, _seed(seed, f"{base}-of{folds}"))
    elif base == "image":
        parts = _by_image(strata(table, tasks), shares, _seed(seed, base))
    else:
        parts = _by_group(table, tasks, base, shares, _seed(seed, base))
    return pd.DataFrame({"image_id": table["image_id"], "part": parts})


def strata(table: pd.DataFrame, tasks: Sequence[str]) -> Codes:
    """Number the combinations of labels in order of appearance; an array of shape (n,)."""
    return np.asarray(table.groupby(list(tasks), sort=False).ngroup(), np.int64)


def group_codes(table: pd.DataFrame, unit: str) -> Codes:
    """Number the groups that must stay on one side: equal `unit`, or equal pixels, directly or through others.

    Parameters
    ----------
    table : DataFrame of n rows
    unit
        `slide` or `case`.

    Returns
    -------
    int array of shape (n,)
        In order of appearance.

    Raises
    ------
    DataError
        When an image has no `unit`.
    """
    unknown = table.loc[table[unit] == "", "path"]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} of {len(table)} images have no {unit} ({some(unknown, 3)}), which protocol '{unit}' "
            f"groups by. Name the CSV's column in ingest.columns.{unit}, or take '{unit}' out of `protocols`."
        )
    rows = np.arange(len(table))
    by_unit = pd.factorize(table[unit].map(id_key))[0] + len(table)
    by_pixels = pd.factorize(table["pixels_sha256"])[0] + by_unit.max() + 1
    nodes = by_pixels.max() + 1
    links = coo_matrix((np.ones(2 * len(rows)), (np.tile(rows, 2), np.append(by_unit, by_pixels))), (nodes, nodes))
    return pd.factorize(connected_components(links, directed=False)[1][: len(rows)])[0]


def read_fold_table(path: Path) -> pd.DataFrame:
    """Read the official fold table (`filename,maginfication,number,split`) and keep fold 1.

    Raises
    ------
    DataError
        Missing file, missing column, or a `split` other than train and test.
    """
    if not path.exists():
        raise DataError(f"split.fold_table cannot be read: {path} is missing. Set it to the fold table's path.")
    try:
        records = read_records(path, list(FOLD_COLUMNS))
    except DataError as error:
        raise DataError(f"split.fold_table cannot be read: {error}") from None
    rows = [[*cells, *[""] * len(records.header)][: len(records.header)] for _, cells in records.rows]
    table = pd.DataFrame(rows, columns=records.header, dtype=str)
    missing = [column for column in FOLD_COLUMNS if column not in table]
    if missing:
        raise DataError(
            f"split.fold_table {path} has no column {some(missing)}; it has {some(table.columns)}. "
            f"The official table has {', '.join(FOLD_COLUMNS)}."
        )
    table = table[table["number"] == "1"].drop_duplicates(["filename", "split"])
    strange = table.loc[~table["split"].isin(("train", "test")) | table["filename"].map(fold).duplicated(keep=False)]
    if len(strange):
        row = strange.iloc[0]
        raise DataError(
            f"split.fold_table {path} puts {row['filename']} into '{row['split']}'; each file of fold 1 must stand in "
            f"it once, as train or test ({len(strange)} such rows)."
        )
    return table


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big")


def _by_image(labels: Codes, shares: Split, seed: int) -> Parts:
    """Shuffle each class into the parts: scikit-learn's way, and by hand where a class is too small for it."""
    smallest = min(shares.train, shares.val, shares.test)
    small = np.bincount(labels)[labels] * smallest < 1.5  # fewer, and scikit-learn may leave a part without it
    parts = np.full(len(labels), "train", dtype="<U5")
    rng = np.random.default_rng(seed)
    for label in np.unique(labels[small]):
        members = rng.permutation(np.flatnonzero(labels == label))
        n = len(members)
        test = min(max(round(n * shares.test), 1), max(n - 2, 1)) if n > 1 else 0
        val = min(max(round(n * shares.val), 1), n - test - 1) if n > 1 else 0
        parts[members[:test]], parts[members[test : test + val]] = "test", "val"
    large = np.flatnonzero(~small)
    if len(large):
        sizes = {part: int(len(large) * getattr(shares, part) + 1e-9) for part in ("test", "val")}
        rest, test_rows = train_test_split(large, test_size=sizes["test"], stratify=labels[large], random_state=seed)
        _, val_rows = train_test_split(rest, test_size=sizes["val"], stratify=labels[rest], random_state=seed)
        parts[test_rows], parts[val_rows] = "test", "val"
    return parts


def _by_group(table: pd.DataFrame, tasks: Sequence[str], unit: str, shares: Split, seed: int) -> Parts:
    groups = group_codes(table, unit)
    _need_groups(groups, unit, unit, len(PARTS))
    order = np.array(("train", "test", "val"))  # what a class too small for all three loses first stands last
    wanted = np.array([getattr(shares, part) for part in order])
    return order[assign_groups(_counts(groups, table, tasks), wanted, seed)][groups]


def _k_fold(table: pd.DataFrame, labels: Codes, unit: str, index: int, folds: int, seed: int) -> Parts:
    """Fold `index` (from 1) is test, the next one, cyclically, val."""
    groups = np.arange(len(table)) if unit == "image" else group_codes(table, unit)
    name = f"{unit}-{index}of{folds}"
    _need_groups(groups, unit, name, folds)
    if np.bincount(labels).max() < folds:
        raise DataError(f"protocol '{name}' needs a class of {folds} images or more. Name fewer folds in `protocols`.")
    kind = StratifiedKFold if unit == "image" else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    parts = np.full(len(table), "train", dtype="<U5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer members than folds: metrics/split.json says so
        tests = [test for _, test in splitter.split(labels, labels, groups)]
    parts[tests[index - 1]], parts[tests[index % folds]] = "test", "val"
    return parts


def _official(
    table: pd.DataFrame, tasks: Sequence[str], shares: Split, fold_table: pd.DataFrame | None, seed: int
) -> Parts:
    """Take test from the table; draw val, `shares.val` of all images, from its train by case."""
    if fold_table is None:
        raise DataError("protocol 'fold1' needs split.fold_table, the path of the official fold's table.")
    official = fold_table.set_index(fold_table["filename"].map(fold))["split"]
    names = table["path"].map(lambda path: fold(PurePosixPath(path).name))
    absent = table.loc[~names.isin(official.index), "path"]
    if len(absent):
        raise DataError(
            f"{len(absent)} of {len(table)} images do not stand in split.fold_table ({some(absent, 3)}). "
            f"Take 'fold1' out of `protocols`, or use the table of this data set."
        )
    parts = names.map(official).to_numpy(dtype="<U5")
    train = np.flatnonzero(parts == "train")
    rows = table.iloc[train]
    groups = group_codes(rows, "case") if len(rows) else np.zeros(0, np.int64)
    _need_groups(groups, "case", "fold1", 2)
    val = min(shares.val * len(table) / len(train), 0.5)
    drawn = assign_groups(_counts(groups, rows, tasks), np.array([1 - val, val]), seed)[groups]
    parts[train] = np.array(("train", "val"))[drawn]
    return parts


def _counts(groups: Codes, table: pd.DataFrame, tasks: Sequence[str]) -> NDArray[np.float64]:
    """Count images of each combination of labels and of each coarser label; an array of shape (groups, columns)."""
    joint = strata(table, tasks)
    single = [pd.factorize(table[task])[0] for task in tasks]
    kinds = [joint, *(codes for codes in single if codes.max() < joint.max())]  # a task as fine as `joint` adds nothing
    tables = [np.zeros((groups.max() + 1, codes.max() + 1)) for codes in kinds]
    for counts, codes in zip(tables, kinds, strict=True):
        np.add.at(counts, (groups, codes), 1)
    return np.hstack(tables)


def _need_groups(groups: Codes, unit: str, protocol: str, needed: int) -> None:
    found = len(np.unique(groups))
    if found < needed:
        raise DataError(
            f"protocol '{protocol}' needs at least {needed} {unit}s that share no pixels; the table has {found}. Use "
            f"more images, or take '{protocol}' out of `protocols` ('image' needs no {unit}s, but leaks them)."
        )
