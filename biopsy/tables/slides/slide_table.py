"""The table of facts about slides (`data.slides`): any CSV with a column `slide` and at least one other."""

from pathlib import Path
from typing import TYPE_CHECKING

from biopsy.core.errors import DataError, nearest, some
from biopsy.core.rawcsv import read_records
from biopsy.core.text import id_key, plain

if TYPE_CHECKING:
    import pandas as pd

KEY = "slide"


def read_slides(path: Path) -> "pd.DataFrame":
    """Read and check the table.

    Parameters
    ----------
    path
        The CSV: any encoding and separator that `biopsy.core.rawcsv` knows.

    Returns
    -------
    DataFrame
        Text, indexed by the `id_key` of the slide, in the file's order; an empty cell is an empty string.

    Raises
    ------
    DataError
        No column `slide` or nothing beside it, a column named twice, a row without a slide, a slide with two different
        rows.
    """
    import pandas as pd  # a second, which a model's card should not cost

    try:
        records = read_records(path, [KEY], "slide")
    except DataError as error:
        raise DataError(f"data.slides: {error}") from None
    header = [KEY if plain(name) == KEY else name for name in records.header]
    if KEY not in header:
        raise DataError(
            f"data.slides: {path} has no column '{KEY}', only {some(header, 8)}.{nearest(KEY, header)} "
            "Name the column that holds the slides' ids so."
        )
    twice = sorted({name for name in header if header.count(name) > 1 or not name})
    if twice or len(header) < 2:
        name = f"two columns '{twice[0]}'" if twice and twice[0] else "a column without a name"
        what = f"has {name}" if twice else f"has no other column than '{KEY}'"
        raise DataError(
            f"data.slides: {path} {what}. Column names must differ, and at least one column must have facts."
        )
    rows = [(line, cells + [""] * (len(header) - len(cells))) for line, cells in records.rows]
    table = pd.DataFrame([cells[: len(header)] for _, cells in rows], columns=header, dtype=str)
    unnamed = [line for (line, _), slide in zip(rows, table[KEY], strict=True) if not slide]
    if unnamed:
        raise DataError(f"data.slides: {path} row {unnamed[0]} names no slide. Fill it in or take the row away.")
    spelled, table[KEY] = table[KEY], table[KEY].map(id_key)
    table = table.drop_duplicates()
    again = spelled[table.index[table[KEY].duplicated()]]
    if len(again):
        raise DataError(f"data.slides: {path} has different rows for one slide ({some(again)}). Keep one row a slide.")
    return table.set_index(KEY)
