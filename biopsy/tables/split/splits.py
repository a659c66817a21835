"""Divide the images into train, val and test by a named protocol.

Every function works on the table sorted by `image_id`, and numbers classes and groups in that order, so that neither
the order of the rows nor the names of classes and groups change a split. The seed is derived from the protocol's name,
so adding a protocol does not change other splits.
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from biopsy.core.errors import DataError, some
from biopsy.core.protocol import PARTS, Fold, Protocol, parse_protocol
from biopsy.core.sections.data import Split
from biopsy.core.text import fold, id_key
from biopsy.tables.split.earlier import KEPT, fixed_groups
from biopsy.tables.split.folds import assign_folds, column_of, parts_of
from biopsy.tables.split.published import PUBLISHED
from biopsy.tables.split.search import assign_groups

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
        With `image_id`, `path`, `slide`, `case`, `pixels_sha256`, and a column of text for each of `tasks`; where an
        earlier split is kept, also what `Earlier.offer` adds.
    tasks
        The columns of labels to stratify by.
    protocol
        Its name, see `biopsy.core.protocol`.
    shares
        The parts' sizes; a k-fold split has 1/k for test, 1/k for val and the rest for train.
    seed
        `params.seed`.
    fold_table
        What `read_fold_table` returned; for `fold1` only.

    Returns
    -------
    DataFrame of n rows
        `image_id`, sorted, and `part` ("train", "val" or "test"). For a cross-validation the folds (int, from 1) of
        each repeat instead, see `biopsy.tables.split.folds`; for one of its folds both.

    Raises
    ------
    DataError
        The protocol is not possible with this table.

    Notes
    -----
    - Stratified by all labels of an image together.
    - `slide` and `case` keep each group, and all images of equal pixels, on one side.
    - Invariant to the order of the rows and to the names of classes and groups.
    - Images with a kept part keep it, and so do their groups; the others are placed around these.
    """
    table = labels.sort_values("image_id", ignore_index=True)
    if len(table) < len(PARTS):
        raise DataError(f"{len(table)} image(s) cannot fill three parts. Point data.source at more images.")
    found, ids = parse_protocol(protocol), table[["image_id"]]
    if found.k:
        repeats = range(1, found.repeats + 1)
        folds = ids.assign(**{column_of(r): _folds(table, tasks, found, r, seed) for r in repeats})
        return folds if found.folds else parts_of(folds, Fold(1, found.index)).merge(folds)
    if found.unit == "fold1":
        parts = _official(table, tasks, shares, fold_table, _seed(seed, protocol))
    elif found.unit in PUBLISHED:
        parts = _published(table, tasks, shares, protocol, _seed(seed, protocol))
    elif found.unit == "given":
        parts = _given(table, tasks, shares, _seed(seed, protocol))
    elif found.unit == "image":
        draw = _around if KEPT + "part" in table else _by_image
        parts = draw(table, tasks, shares, _seed(seed, protocol))
    else:
        parts = _by_group(table, tasks, found.unit, shares, _seed(seed, protocol))
    return ids.assign(part=parts)


def strata(table: pd.DataFrame, tasks: Sequence[str]) -> Codes:
    """Number the combinations of labels in order of appearance; an array of shape (n,)."""
    return np.asarray(table.groupby(list(tasks), sort=False).ngroup(), np.int64)


def group_codes(table: pd.DataFrame, unit: str, protocol: str = "") -> Codes:
    """Number the groups that must stay on one side: equal `unit`, or equal pixels, directly or through others.

    Parameters
    ----------
    table : DataFrame of n rows
    unit
        `slide` or `case`.
    protocol
        The name in errors; empty: the unit.

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
            f"{len(unknown)} of {len(table)} images have no {unit} ({some(unknown, 3)}), which protocol "
            f"'{protocol or unit}' groups by. Name the table's column in ingest.columns.{unit} (without a CSV: folder1 "
            f"is the outermost folder). Where they are unknown, take '{protocol or unit}' out of `protocols` (-S "
            "'protocols=[image]')."
        )
    rows = np.arange(len(table))
    by_unit = pd.factorize(table[unit].map(id_key))[0] + len(table)
    by_pixels = pd.factorize(table["pixels_sha256"])[0] + by_unit.max() + 1
    nodes = by_pixels.max() + 1
    links = coo_matrix((np.ones(2 * len(rows)), (np.tile(rows, 2), np.append(by_unit, by_pixels))), (nodes, nodes))
    return pd.factorize(connected_components(links, directed=False)[1][: len(rows)])[0]


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big")


def _by_image(table: pd.DataFrame, tasks: Sequence[str], shares: Split, seed: int) -> Parts:
    """Shuffle each class into the parts: with scikit-learn, and by hand where a class is too small for it."""
    labels = strata(table, tasks)
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


def _around(table: pd.DataFrame, tasks: Sequence[str], shares: Split, seed: int) -> Parts:
    """Put each new image, in random order, into a part without its class, else into the part that lacks most of it."""
    labels, rng, order = strata(table, tasks), np.random.default_rng(seed), np.array(("train", "test", "val"))
    wanted, parts = np.array([getattr(shares, part) for part in order]), table[KEPT + "part"].to_numpy(dtype="<U5")
    for label in np.unique(labels[parts == ""]):
        of_class = labels == label
        have = np.array([(parts[of_class] == part).sum() for part in order], float)
        for row in rng.permutation(np.flatnonzero(of_class & (parts == ""))):
            to = int(np.argmin(have) if not have.all() else np.argmax(wanted * of_class.sum() - have))
            parts[row] = order[to]
            have[to] += 1
    return parts


def _by_group(table: pd.DataFrame, tasks: Sequence[str], unit: str, shares: Split, seed: int) -> Parts:
    groups = group_codes(table, unit)
    _need_groups(groups, unit, unit, len(PARTS))
    order = np.array(("train", "test", "val"))  # what a class too small for all three loses first stands last
    wanted = np.array([getattr(shares, part) for part in order])
    fixed = fixed_groups(groups, table, "part", order, unit)
    parts = order[assign_groups(_counts(groups, table, tasks), wanted, seed, fixed)][groups]
    if empty := [part for part in PARTS if part not in parts]:
        raise DataError(_too_few(groups, table, tasks, unit, empty, len(np.unique(groups[parts == "train"]))))
    return parts


def _too_few(groups: Codes, table: pd.DataFrame, tasks: Sequence[str], unit: str, empty: list[str], used: int) -> str:
    """Say why parts are empty: training must see every class, and takes the groups that the rare ones are in."""
    held = {
        f"{task} '{name}'": table[unit][rows.index]
        for task in tasks
        for name, rows in table.groupby(task)
        if len(np.unique(groups[rows.index])) == 1
    }
    rare = some((f"{label} is in {unit} {ids.iloc[0]} alone" for label, ids in held.items()), 3)
    return (
        f"protocol '{unit}' leaves no image for {some(empty)}: training must see every class, and takes {used} of the "
        f"{groups.max() + 1} {unit}s{f' ({rare})' if rare else ''}. Add {unit}s of these classes, or take '{unit}' "
        f"out of `protocols` ('image' needs no {unit}s, but leaks them)."
    )


def _folds(table: pd.DataFrame, tasks: Sequence[str], protocol: Protocol, repeat: int, seed: int) -> Codes:
    """Give each row its fold, 1 to k; a repeat has the folds that it would have alone."""
    groups = np.arange(len(table)) if protocol.unit == "image" else group_codes(table, protocol.unit, protocol.name)
    _need_groups(groups, protocol.unit, protocol.name, protocol.k)
    name = f"{protocol.unit}-of{protocol.k}" + (f"-{repeat}" if repeat > 1 else "")
    fine = int(strata(table, tasks).max()) + 1
    fixed = fixed_groups(groups, table, column_of(repeat), range(1, protocol.k + 1), protocol.unit)
    return assign_folds(_counts(groups, table, tasks), fine, protocol.k, _seed(seed, name), fixed)[groups] + 1


def _official(
    table: pd.DataFrame, tasks: Sequence[str], shares: Split, fold_table: pd.DataFrame | None, seed: int
) -> Parts:
    """Take the parts from the table; if it has no val, draw it by case from train: `shares.val` of all images."""
    if fold_table is None:
        raise DataError("protocol 'fold1' needs split.fold_table, the path of a fold table.")
    official = fold_table.set_index(fold_table["filename"].map(fold))["split"]
    paths, names = table["path"].map(fold), table["path"].map(lambda path: fold(PurePosixPath(path).name))
    names = paths.where(paths.isin(official.index), names)
    absent = table.loc[~names.isin(official.index), "path"]
    if len(absent):
        raise DataError(
            f"{len(absent)} of {len(table)} images are not in split.fold_table ({some(absent, 3)}). "
            f"Take 'fold1' out of `protocols`, or use the table of this data set."
        )
    parts = names.map(official).to_numpy(dtype="<U5")
    return parts if "val" in parts else _with_val(parts, table, tasks, shares, seed, "case", "fold1")


def _published(table: pd.DataFrame, tasks: Sequence[str], shares: Split, protocol: str, seed: int) -> Parts:
    """Take the test slides of a published comparison by file name; draw val by case from the others."""
    slides = {fold(slide) for slide in PUBLISHED[protocol].slides}
    names = table["path"].map(lambda path: fold(PurePosixPath(path).name).rsplit("-", 2)[0])
    parts = np.where(names.isin(slides), "test", "train").astype("<U5")
    return _with_val(parts, table, tasks, shares, seed, "case", protocol)


def _given(table: pd.DataFrame, tasks: Sequence[str], shares: Split, seed: int) -> Parts:
    """Take the parts from the column `given`; if it has no val, draw it from train by the largest known unit."""
    lacking = table.loc[table["given"] == "", "path"]
    if len(lacking):
        raise DataError(
            f"{len(lacking)} of {len(table)} images have no part in the column '{shares.column}' ({some(lacking, 3)}). "
            "Fill it in (without a CSV: set split.column to folder1, the outermost folder, and say in split.map which "
            "of its names are train, val and test), or take 'given' out of `protocols`."
        )
    parts = table["given"].to_numpy(dtype="<U5")
    unit = next((unit for unit in ("case", "slide") if (table[unit] != "").all()), "image")
    return parts if "val" in parts else _with_val(parts, table, tasks, shares, seed, unit, "given")


def _with_val(
    parts: Parts, table: pd.DataFrame, tasks: Sequence[str], shares: Split, seed: int, unit: str, protocol: str
) -> Parts:
    """Draw val, `shares.val` of all images, from the groups of train."""
    train = np.flatnonzero(parts == "train")
    rows = table.iloc[train]
    groups = np.arange(len(rows)) if unit == "image" or rows.empty else group_codes(rows, unit)
    _need_groups(groups, unit, protocol, 2)
    val = min(shares.val * len(table) / len(train), 0.5)
    sides = np.array(("train", "val"))
    fixed = fixed_groups(groups, rows, "part", sides, unit)
    drawn = assign_groups(_counts(groups, rows, tasks), np.array([1 - val, val]), seed, fixed)[groups]
    parts = parts.copy()
    parts[train] = sides[drawn]
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
