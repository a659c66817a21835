"""The part of each image that the user's own CSV states: protocol `given`."""

from pathlib import Path, PurePosixPath

import pandas as pd

from biopsy.core.errors import DataError, some, warn
from biopsy.core.protocol import PARTS, read_part
from biopsy.core.rawcsv import cell_reader, columns_in, find_column, read_records
from biopsy.core.sections.data import Ingest, Split
from biopsy.core.text import count, is_missing, look_up, plain


def unused_column(csv: Path, columns: Ingest) -> str:
    """Name a column of the CSV with the parts train and test and no other words than parts; empty if there is none.

    Parameters
    ----------
    csv, columns
        As for `read_given`.
    """
    records = read_records(csv, columns_in(columns.columns.path))
    for at, name in enumerate(records.header):
        words = {plain(cells[at]) for _, cells in records.rows if at < len(cells) and not is_missing(cells[at])}
        if {"train", "test"} <= {read_part(word) for word in words} <= {*PARTS}:
            return name
    return ""


def read_given(csv: Path, images: pd.DataFrame, settings: Split, columns: Ingest) -> pd.Series:
    """Read the column that `split.column` names.

    Parameters
    ----------
    csv
        The CSV of images.
    images
        With `image_id` and `row`, the line of the CSV.
    settings
        `column`, and `map` from the CSV's words to parts; words such as train, valid and test need no map.
    columns
        The column of paths is used, to find an image that stands in several rows.

    Returns
    -------
    Series
        "train", "val", "test", or "" where the cell is empty; by image_id.

    Raises
    ------
    DataError
        No such column, a word that is not a part, an image in two parts, or no image in train or test.
    """
    assert settings.column is not None
    records = read_records(csv, [settings.column, *columns_in(columns.columns.path)])
    at = find_column(records.header, settings.column, "split.column", csv)
    path_of = cell_reader(records.header, columns.columns.path, "ingest.columns.path", csv)
    parts: dict[int, str] = {}
    by_path: dict[str, tuple[int, str]] = {}
    wrong: list[str] = []
    words = set[str]()
    for row, cells in records.rows:
        text = cells[at] if at < len(cells) else ""
        words.add(plain(text))
        part = look_up(settings.map, text) or ("" if is_missing(text) else read_part(text))
        if part is None:
            wrong.append(f"row {row}: {text!r}")
            continue
        parts[row] = part
        name = PurePosixPath(path_of(cells)).as_posix()
        first, other = by_path.setdefault(name, (row, part))
        if part and other and part != other:
            raise DataError(
                f"{csv} row {row} puts {name} into {part}, and row {first} into {other}. Keep one of the two rows."
            )
        if part and not other:
            by_path[name] = row, part
    if wrong:
        word = wrong[0].partition(": ")[2].strip("'")
        raise DataError(
            f"{csv}: {count(len(wrong), 'row')} with a word in '{settings.column}' that is no part ({some(wrong, 3)}). "
            f"Map it: -S 'split.map={{{word}: train}}', or val, or test."
        )
    rows = {row: parts[row] or by_path[PurePosixPath(path_of(cells)).as_posix()][1] for row, cells in records.rows}
    found = pd.Series([rows.get(int(row), "") for row in images["row"]], index=images["image_id"], dtype=object)
    counts = found.value_counts()
    if missing := [part for part in ("train", "test") if part not in counts and "" not in counts]:
        have = some(f"{part}: {count:,}" for part, count in counts.items())
        raise DataError(
            f"{csv}: the column '{settings.column}' puts no image into {' or '.join(missing)} ({have}). Correct it or "
            "split.map, or take 'given' out of `protocols`."
        )
    for word in settings.map:
        if plain(word) not in words:
            warn(f"split.map has the word '{word}', which the column '{settings.column}' does not have.")
    return found
