"""A fold table, such as the official one of BreaKHis: which files of a fold are test files."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.files import LISTED
from biopsy.core.matching import match_files
from biopsy.core.protocol import PARTS, read_part
from biopsy.core.rawcsv import read_records
from biopsy.core.text import fold, plain

COLUMNS = {"filename": ["filename"], "number": ["fold", "number"], "split": ["split", "grp"]}  # fold, grp: Kaggle's
OFFICIAL = "87222a715d22dd445b702c89eee93a3f4a855161ef0a9a96ee63aca1f4397523"  # of fold 1 of BreakHis; `is_official`


def read_fold_table(path: Path) -> pd.DataFrame:
    """Read fold 1 of a fold table with the columns of the official one, or with the names in copies of it.

    Returns
    -------
    DataFrame
        `row`, `filename` and `split` ("train", "val" or "test").

    Raises
    ------
    DataError
        Missing file or column, a `split` that is not a part, a file in two parts, fold 1 without train or test files.
    """
    if not path.exists():
        raise DataError(f"split.fold_table cannot be read: {path} is missing. Set it to the fold table's path.")
    try:
        records = read_records(path, [name for names in COLUMNS.values() for name in names])
    except DataError as error:
        raise DataError(f"split.fold_table cannot be read: {error}") from None
    header = [plain(name) for name in records.header]
    at = {key: [header.index(name) for name in map(plain, names) if name in header] for key, names in COLUMNS.items()}
    if missing := [key for key, places in at.items() if not places and key != "number"]:
        raise DataError(
            f"split.fold_table {path} has no column {some(missing)}; it has {some(records.header)}. "
            "The official table has filename, maginfication, number, split."
        )
    cells = [[*cells, *[""] * len(header)] for _, cells in records.rows]
    known = {key: [row[places[0]] if places else "1" for row in cells] for key, places in at.items()}
    table = pd.DataFrame(known, dtype=str)  # without a column of folds it is a table of one
    table.insert(0, "row", [row for row, _ in records.rows])
    numbers = table["number"].map(plain)  # 1.0 is 1
    if "1" not in set(numbers):
        name = records.header[at["number"][0]]
        raise DataError(f"split.fold_table {path} has no fold 1 in its column '{name}' ({some(sorted(set(numbers)))}).")
    table = table[numbers == "1"].drop(columns="number")
    table = table.assign(split=[read_part(word) or word for word in table["split"]])
    table = table.drop_duplicates(["filename", "split"])
    strange = table.loc[~table["split"].isin(PARTS) | table["filename"].map(fold).duplicated(keep=False)]
    if len(strange):
        row = strange.iloc[0]
        raise DataError(
            f"split.fold_table {path} row {row['row']} puts {row['filename']} into '{row['split']}'; each file of "
            f"fold 1 must be in it once, as train, val or test ({len(strange)} such rows)."
        )
    for part in {"train", "test"} - set(table["split"]):
        name = records.header[at["split"][0]]
        raise DataError(
            f"split.fold_table {path}: the column '{name}' puts none of {len(table):,} files of fold 1 into {part}."
        )
    return table


def match_fold_table(table: pd.DataFrame, paths: pd.Series) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Correct names in the fold table that are neither the file name nor the path of an image.

    Parameters
    ----------
    table
        What `read_fold_table` returned.
    paths
        Of the images.

    Returns
    -------
    tuple
        The table, and how many rows were changed, with the first of them.
    """
    named = set(table["filename"].map(fold))
    known = [{fold(path), fold(PurePosixPath(path).name)} for path in paths]
    loose = ~table["filename"].map(fold).isin(set().union(*known))
    if not loose.any() or all(spellings & named for spellings in known):
        return table, {"count": 0, "listed": []}
    names = table["filename"].map(lambda name: PurePosixPath(name.replace("\\", "/")).name)
    names = table["filename"] if names.map(fold).duplicated().any() else names  # the folders tell them apart
    files = names.map(match_files(names, paths).files).fillna(names)
    loose &= files.isin(paths)
    rows = table[loose].assign(file=files)
    listed = [f"row {row.row}: {row.filename} is {row.file}" for row in rows.head(LISTED).itertuples()]
    return table.assign(filename=files.where(loose, table["filename"])), {"count": len(rows), "listed": listed}


def is_official(fold_table: pd.DataFrame) -> bool:
    """Tell whether a table is fold 1 as published for BreakHis."""
    lines = sorted(fold_table["filename"].map(lambda path: PurePosixPath(path).name) + " " + fold_table["split"])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() == OFFICIAL
