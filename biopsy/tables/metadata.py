"""The user's CSV as one table of known columns: names matched, labels read, every row checked."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pandera.pandas as pa

from biopsy.core.errors import DataError, nearest, some
from biopsy.core.files import LISTED
from biopsy.core.matching import match_files
from biopsy.core.rawcsv import Records, cell_reader, columns_in, find_column, read_records
from biopsy.core.sections.data import Ingest
from biopsy.core.text import count, first_spellings, is_missing, look_up, plain, read_magnification
from biopsy.tables.labels.scheme import LabelScheme, SchemeTask

FIXED = ("magnification", "mpp", "slide", "case")  # called so in the table and in ingest.columns
IDS = ("slide", "case")
TOTALS = r"^((grand |sub)?totals?|sum|summe|gesamt|count|average|mean)\b(?!\.\w)"


def _rule(pattern: str, sentence: str) -> pa.Check:
    """Reject values that contain the pattern; the sentence says what is wrong and, after `. `, what to do."""
    return pa.Check(lambda values: ~values.str.contains(pattern, regex=True), error=sentence)


def _read_by(read: Callable[[str], str | None], sentence: str) -> pa.Check:
    """Reject values that `read` does not return as they are; the sentence is as for `_rule`."""
    return pa.Check(lambda value: read(value) == value, element_wise=True, error=sentence)


def _read_mpp(text: str) -> str | None:
    """Return a number from 0.01 to 100 in one spelling, an empty string for an empty one, else None."""
    if not text:
        return ""
    found = re.fullmatch(r"[0-9]{1,3}(?:[.,][0-9]{1,9})?", text)
    number = float(text.replace(",", ".")) if found else 0
    return f"{number:g}" if 0.01 <= number <= 100 else None


SCHEMA = pa.DataFrameSchema(
    {
        "row": pa.Column(int),
        "path": pa.Column(
            str,
            [
                _rule(r"^\.?/*$", "without a path. Fill it in or delete the row"),
                _rule(
                    r"[\x00-\x1f\x7f]",
                    "with a control character in the path. Rename the file, or look for a misplaced quote",
                ),
                _rule(r"^(?:/.|[A-Za-z]:)", "with an absolute path. Write it relative to the image folder"),
                _rule(
                    r"(?:^|[/\\])\.\.(?:[/\\]|$)",
                    "with '..' in the path, which may lead outside. Write it relative to that folder",
                ),
                _rule(r"\\", "with a backslash in the path. Write '/'"),
            ],
        ),
        "magnification": pa.Column(
            str, _read_by(read_magnification, "with an unknown magnification. Write it as 40X or 40")
        ),
        "mpp": pa.Column(
            str,
            _read_by(
                _read_mpp, "without a size in micrometres per pixel from 0.01 to 100. Write a number such as 0.25"
            ),
        ),
        "slide": pa.Column(str),
        "case": pa.Column(str),
    }
)


@dataclass(frozen=True)
class Metadata:
    """The table (all text but `row`; unknown is an empty string), its label scheme, and counts.

    `matched` counts the paths that spell their file differently; `hints` says what is there instead of missing files.
    """

    table: pd.DataFrame
    scheme: LabelScheme
    counts: dict[str, Any]
    matched: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)


def read_metadata(path: Path, settings: Ingest, scheme: LabelScheme, files: Sequence[str] = ()) -> Metadata:
    """Read, match and check a CSV of images.

    Parameters
    ----------
    path
        The CSV; see `rawcsv.read_records` for what is understood.
    settings
        Column names, and what happens to a path in two rows.
    scheme
        The tasks with their columns and classes; classes that are to be taken from the CSV are filled in.
    files
        The existing image files, relative to their folder: a path that no file has exactly is replaced by that of the
        file it means (see `match_files`).

    Returns
    -------
    Metadata
        One row per distinct path, in the file's order. `row` is the line of the file, the header's being 1. Labels are
        the scheme's classes, magnifications numbers; `path` is normalised (`./a//b.png` is `a/b.png`). Slides and cases
        whose spellings differ only in what `text.id_key` ignores are one, spelled as in its first row.

    Raises
    ------
    DataError
        Names the file, the rows, the values and the way out.
    """
    keys = _csv_columns(settings, scheme)
    records = read_records(path, [column for name, _ in keys.values() if name for column in columns_in(name)])
    raw = _pick(path, records, keys, scheme)
    _reject_totals(path, raw, files)
    unused = _unused_words(path, raw, scheme)
    matches = match_files(raw["path"], files)
    matched = matches.count(zip(raw["row"], raw["path"], strict=True))
    raw["path"] = [matches.files.get(name, name) for name in raw["path"]]
    spelled = {column: raw[column].tolist() for column in IDS}
    raw = raw.assign(**{column: first_spellings(values) for column, values in spelled.items()})
    for task, told in scheme.tasks.items():
        if not told.classes and told.column:
            values = [scheme.mapped(text) for text in raw[task]]
            blank = _blanked(records, told.column, path) - set(raw[task])
            scheme = scheme.with_classes(task, values, f"{path}: column '{told.column}'", blank)
    table = _canonical(raw, scheme)
    _check(path, table, scheme)
    table["path"] = [PurePosixPath(value).as_posix() for value in table["path"]]
    counts = {
        "encoding": records.encoding,
        "separator": records.separator,
        "rows": len(table),
        "short_rows": {"count": len(records.short), "rows": records.short[:LISTED]},
        "blank_lines": records.blank,
        "comment_lines": records.comments,
        "labels_map_unused": {"count": len(unused), "listed": unused[:LISTED]},
        "respelled": {column: _respelled(spelled[column], raw[column].tolist()) for column in IDS},
    }
    table, repeated = _merge_duplicates(path, table, settings.duplicate_rows, matches.hints)
    counts["duplicate_rows"] = {"count": len(repeated), "rows": repeated[:LISTED]}
    return Metadata(table, scheme, counts, matched, matches.hints)


def _csv_columns(settings: Ingest, scheme: LabelScheme) -> dict[str, tuple[str | None, str]]:
    """Map each of our columns to the CSV's, and to the parameter that names it."""
    columns = settings.columns
    named: dict[str, tuple[str | None, str]] = {"path": (columns.path, "ingest.columns.path")}
    named |= {name: (task.column, f"labels.tasks.{name}.column") for name, task in scheme.tasks.items()}
    return named | {name: (getattr(columns, name), f"ingest.columns.{name}") for name in FIXED}


def _pick(path: Path, records: Records, keys: dict[str, tuple[str | None, str]], scheme: LabelScheme) -> pd.DataFrame:
    """Pick our columns as text; marks of a missing value become empty."""
    columns: dict[str, list[Any]] = {"row": [line for line, _ in records.rows]}
    for column, (name, key) in keys.items():
        read = cell_reader(records.header, name, key, path) if name else lambda cells: ""
        values = [read(cells) for _, cells in records.rows]
        if column != "path":
            labels = _labels_in(values, column, scheme) if column in scheme.columns else set()
            values = ["" if is_missing(value) and value not in labels else value for value in values]
        columns[column] = values
    return pd.DataFrame(columns)


def _blanked(records: Records, column: str, path: Path) -> set[str]:
    """Name the words of a column of labels that stand for a missing value."""
    index = find_column(records.header, column, "", path)
    return {cells[index] for _, cells in records.rows if index < len(cells) and is_missing(cells[index])} - {""}


def _labels_in(values: list[str], task: str, scheme: LabelScheme) -> set[str]:
    """Return the marks of a missing value that are labels here: a class such as `none`, or a key of labels.map."""
    if scheme[task].classes:
        return {value for value in set(values) if scheme.read(task, value)}
    return {value for value in set(values) if look_up(scheme.map, value) is not None} | (
        {"-"} if "+" in values else set()
    )


def _reject_totals(path: Path, raw: pd.DataFrame, files: Sequence[str]) -> None:
    """Raise `DataError` where the last row is one of totals, which spreadsheets add."""
    row, name = int(raw["row"].iloc[-1]), str(raw["path"].iloc[-1])
    if re.match(TOTALS, name, re.IGNORECASE) and not match_files([name], files).files and name not in files:
        raise DataError(f"{path} row {row}: {name!r} looks like a row of totals, not an image. Delete the row.")


def _unused_words(path: Path, raw: pd.DataFrame, scheme: LabelScheme) -> list[str]:
    """List the words of `labels.map` that no row has; raise `DataError` where it translates no label at all."""
    found = sorted({value for task in scheme.columns for value in raw[task] if value})
    spelled = {plain(value) for value in found}
    unused = [word for word in scheme.map if plain(word) not in spelled]
    if unused and found and len(unused) == len(scheme.map):
        raise DataError(
            f"{path}: labels.map translates {some(scheme.map)}, and no label is one of them; the labels are "
            f"{some(found)}.{_unquoted(scheme.map)} Write labels.map with these words, or set it to null."
        )
    return unused


def _respelled(written: list[str], kept: list[str]) -> dict[str, Any]:
    """Count the ids that were replaced by another spelling of the same id."""
    pairs = {f"{one} is {other}": None for one, other in zip(written, kept, strict=True) if one != other}
    return {"count": len(pairs), "listed": list(pairs)[:LISTED]}


def _canonical(raw: pd.DataFrame, scheme: LabelScheme) -> pd.DataFrame:
    """Read labels and numbers; what cannot be read stays, for the check to find."""
    readers: dict[str, Callable[[str], str | None]] = {"magnification": read_magnification, "mpp": _read_mpp}
    readers |= {task: lambda text, task=task: scheme.read(task, text) for task in scheme.columns}  # type: ignore[misc]
    table = raw.copy()
    for column, read in readers.items():
        known = {value: read(value) for value in set(raw[column])}
        table[column] = [value if known[value] is None else str(known[value]) for value in raw[column]]
    return table


def _check(path: Path, table: pd.DataFrame, scheme: LabelScheme) -> None:
    """Check the table against the schema and put the first broken rule into a sentence."""
    for name, task in scheme.tasks.items():
        _check_labels(path, table, name, task)
    try:
        SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        first = cases.sort_values(["index", "check_number"]).iloc[0]
        column, rule = str(first["column"]), str(first["check"])
        alike = cases[(cases["column"] == column) & (cases["check"] == rule)].sort_values("index")
        alike = alike.assign(row=table["row"].loc[alike["index"]].to_numpy()).drop_duplicates("row")
        rows = [f"row {line}: {value!r}" for line, value in zip(alike["row"], alike["failure_case"], strict=True)]
        what, _, way_out = rule.partition(". ")
        raise DataError(f"{path}: {count(len(rows), 'row')} {what} ({some(rows)}). {way_out}.") from None


def _unquoted(words: Iterable[str]) -> str:
    """Say why 'True' or 'False' may be among words of params.yaml that the user wrote as yes or no; else nothing."""
    found = {"True", "False"}.intersection(words)
    return " YAML reads yes, no, on and off as True and False: put them in quotes." if found else ""


def _check_labels(path: Path, table: pd.DataFrame, name: str, task: SchemeTask) -> None:
    """Raise `DataError` for labels that are not classes of the task."""
    wrong = table[~table[name].isin(["", *task.names])].drop_duplicates("row") if task.classes else table[:0]
    if wrong.empty:
        return
    rows = [f"row {line}: {value!r}" for line, value in zip(wrong["row"], wrong[name], strict=True)]
    spellings = [spelling for entry in task.classes for spelling in (entry.name, entry.words, *entry.synonyms)]
    label = str(wrong[name].iloc[0])
    raise DataError(
        f"{path}: {count(len(rows), 'row')} with a label that is not a class of task '{name}' ({some(rows)}). Its "
        f"classes are {', '.join(task.names)}.{_unquoted(task.names) or nearest(label, spellings)} Add the word to "
        f"labels.tasks.{name}.classes.<class>.synonyms, map it (-S 'labels.map={{{label}: {task.names[0]}}}'), or take "
        "the classes from the CSV (-S labels=from_csv)."
    )


def _merge_duplicates(
    path: Path, table: pd.DataFrame, policy: str, hints: Mapping[str, str]
) -> tuple[pd.DataFrame, list[int]]:
    """Keep the first row of each path, its gaps filled from the later ones; return the rows left out as well."""
    again = table["path"].duplicated()
    if not again.any():
        return table, []
    rows = [int(row) for row in table.loc[again, "row"]]
    if policy == "error":
        listed = [f"row {row}: {name}" for row, name in zip(rows, table.loc[again, "path"], strict=True)]
        raise DataError(
            f"{path}: {count(len(rows), 'row')} with the path of an earlier row ({some(listed)}). "
            "Delete them, or set ingest.duplicate_rows to drop."
        )
    labels = list(table.columns[2:])
    blanks = table.where(table != "")
    for column in labels:
        kinds = blanks.groupby("path")[column].nunique()
        if (kinds > 1).any():
            clash = table[table["path"] == kinds.index[kinds > 1][0]]
            said = [f"row {row}: {value!r}" for row, value in zip(clash["row"], clash[column], strict=True) if value]
            name = clash["path"].iloc[0]
            way_out = f"{hints[name]}. Write the folder into the path" if name in hints else "Delete the wrong row"
            raise DataError(f"{path}: {name} is in several rows with more than one {column} ({some(said)}). {way_out}.")
    merged = blanks.groupby("path", sort=False).first().fillna("").reset_index()[list(table.columns)]
    return merged, rows
