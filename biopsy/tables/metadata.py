"""The user's CSV as one table of known columns: names matched, labels read, every row checked."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pandera.pandas as pa

from biopsy.core.errors import DataError, nearest, some
from biopsy.core.files import LISTED
from biopsy.core.rawcsv import Records, count_rows, read_records
from biopsy.core.sections import Ingest
from biopsy.core.text import plain
from biopsy.tables.labels.breakhis import (
    CLASSES,
    SUBTYPES,
    TYPES,
    read_class,
    read_magnification,
    read_subtype,
)

COLUMNS = ["row", "path", "class", "subtype", "magnification", "slide", "case"]
# our column: the key of ingest.columns that names the CSV's
KEYS = {"path": "path", "class": "label", "subtype": "subtype", "magnification": "magnification"}
KEYS |= {"slide": "slide", "case": "case"}
EMPTY = {"", "na", "n/a", "nan", "null", "none", "?"}
READERS = {"class": read_class, "subtype": read_subtype, "magnification": read_magnification}
KNOWN = {"class": list(CLASSES), "subtype": [name for _, name in TYPES.values()] + list(SUBTYPES)}


def _rule(pattern: str, sentence: str) -> pa.Check:
    """Refuse values in which the pattern is found; the sentence says what of the rows, and after `. ` the way out."""
    return pa.Check(lambda values: ~values.str.contains(pattern, regex=True), error=sentence)


SCHEMA = pa.DataFrameSchema(
    {
        "row": pa.Column(int, unique=True),
        "path": pa.Column(
            str,
            [
                _rule(r"^\.?/*$", "without a path. Fill it in or delete the row"),
                _rule(r"[\x00-\x1f\x7f]", "with a control character in the path. Look for a misplaced quote"),
                _rule(r"^(?:/.|[A-Za-z]:)", "with an absolute path. Write it relative to the image folder"),
                _rule(
                    r"(?:^|[/\\])\.\.(?:[/\\]|$)",
                    "with '..' in the path, which may lead outside. Write it relative to that folder",
                ),
                _rule(r"\\", "with a backslash in the path. Write '/'"),
            ],
        ),
        "class": pa.Column(
            str, pa.Check.isin(["", *CLASSES], error="with an unknown class. Known are benign and malignant")
        ),
        "subtype": pa.Column(
            str,
            pa.Check.isin(
                ["", *SUBTYPES],
                error=f"with an unknown tumour type. Known are {', '.join(KNOWN['subtype'])}. "
                "Where the CSV's are others, set ingest.columns.subtype to null and tasks to [binary]",
            ),
        ),
        "magnification": pa.Column(
            str,
            pa.Check.str_matches(r"^\d*$", error="with an unknown magnification. Write it as 40X or 40"),
        ),
        "slide": pa.Column(str),
        "case": pa.Column(str),
    },
    strict=True,
)


@dataclass(frozen=True)
class Metadata:
    """The table (columns COLUMNS, all text but `row`; unknown is an empty string) and what was counted on the way."""

    table: pd.DataFrame
    counts: dict[str, Any]


def read_metadata(path: Path, settings: Ingest) -> Metadata:
    """Read, match and check a CSV of images.

    Parameters
    ----------
    path
        The CSV; see `rawcsv.read_records` for what is understood.
    settings
        Column names, and what becomes of a path that stands in two rows.

    Returns
    -------
    Metadata
        One row per distinct path, in the file's order. `row` is the line of the file, the header's being 1. Classes,
        types and magnifications are in this package's words; `path` is normalised (`./a//b.png` is `a/b.png`).

    Raises
    ------
    DataError
        Names the file, the rows, the values and the way out.
    """
    names = settings.columns.model_dump()
    records = read_records(path, [name for name in names.values() if name])
    table = _canonical(path, records, names)
    _check(path, table)
    table["path"] = [PurePosixPath(value).as_posix() for value in table["path"]]
    counts = {
        "encoding": records.encoding,
        "separator": records.separator,
        "rows": len(table),
        "short_rows": {"count": len(records.short), "rows": records.short[:LISTED]},
        "blank_lines": records.blank,
    }
    table, repeated = _merge_duplicates(path, table, settings.duplicate_rows)
    return Metadata(table, {**counts, "duplicate_rows": {"count": len(repeated), "rows": repeated[:LISTED]}})


def find_column(header: list[str], name: str, key: str, path: Path) -> int:
    """Return the position of a column, compared without case, spaces and underscores where no name fits exactly."""
    found = [i for i, column in enumerate(header) if column == name]
    found = found or [i for i, column in enumerate(header) if plain(column) == plain(name)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} columns" if found else "no column"
    or_null = "" if key == "path" else ", or to null where there is none"
    raise DataError(
        f"{path} has {problem} '{name}' (it has: {', '.join(header)}).{nearest(name, header)} "
        f"Set ingest.columns.{key} to the column's name{or_null}."
    )


def _canonical(path: Path, records: Records, names: dict[str, str | None]) -> pd.DataFrame:
    """Pick our columns and read their values; what cannot be read stays as it is, for the schema to find."""
    columns: dict[str, list[Any]] = {"row": [line for line, _ in records.rows]}
    for column, key in KEYS.items():
        name = names[key]
        index = None if name is None else find_column(records.header, name, key, path)
        values = [cells[index] if index is not None and index < len(cells) else "" for _, cells in records.rows]
        if column != "path":
            values = ["" if value.casefold() in EMPTY else value for value in values]
        if column in READERS:
            read = {value: READERS[column](value) for value in set(values)}
            values = [value if read[value] is None else str(read[value]) for value in values]
        columns[column] = values
    return pd.DataFrame(columns, columns=COLUMNS)


def _check(path: Path, table: pd.DataFrame) -> None:
    """Hold the table against the schema and put the first broken rule into a sentence."""
    try:
        SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        first = cases.sort_values(["index", "check_number"]).iloc[0]
        column, rule = str(first["column"]), str(first["check"])
        alike = cases[(cases["column"] == column) & (cases["check"] == rule)].sort_values("index")
        lines = table["row"].loc[alike["index"]]
        rows = [f"row {line}: {value!r}" for line, value in zip(lines, alike["failure_case"], strict=True)]
        hint = nearest(str(first["failure_case"]), KNOWN.get(column, []))
        what, _, way_out = rule.partition(". ")
        raise DataError(f"{path}: {count_rows(len(rows))} {what} ({some(rows)}).{hint} {way_out}.") from None


def _merge_duplicates(path: Path, table: pd.DataFrame, policy: str) -> tuple[pd.DataFrame, list[int]]:
    """Keep the first row of each path, its gaps filled from the later ones; return the rows left out as well."""
    again = table["path"].duplicated()
    if not again.any():
        return table, []
    rows = [int(row) for row in table.loc[again, "row"]]
    if policy == "error":
        listed = [f"row {row}: {name}" for row, name in zip(rows, table.loc[again, "path"], strict=True)]
        raise DataError(
            f"{path}: {count_rows(len(rows))} with the path of an earlier row ({some(listed)}). "
            "Delete them, or set ingest.duplicate_rows to drop."
        )
    labels = COLUMNS[2:]
    blanks = table.where(table != "")
    for column in labels:
        kinds = blanks.groupby("path")[column].nunique()
        if (kinds > 1).any():
            clash = table[table["path"] == kinds.index[kinds > 1][0]]
            said = [f"row {row}: {value!r}" for row, value in zip(clash["row"], clash[column], strict=True) if value]
            raise DataError(
                f"{path}: {clash['path'].iloc[0]} stands in several rows with more than one {column} ({some(said)}). "
                "Delete the wrong row."
            )
    merged = blanks.groupby("path", sort=False).first().fillna("").reset_index()[COLUMNS]
    return merged, rows
