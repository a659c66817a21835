"""Read the bytes of a user's CSV into records: encoding, separator, quotes, short, long and blank rows."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

from biopsy.core.csv_text import decode
from biopsy.core.errors import DataError, nearest, some
from biopsy.core.files import IMAGE_SUFFIXES
from biopsy.core.text import count, plain

csv.field_size_limit(2**24)  # outlines of regions in a cell have more characters than the module takes by default
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
OWN_ROW = "biopsy_row"  # first column of a table that a source makes from a user's: the row there, for errors
FIELD = re.compile(r"\{([^{}]+?)(?::0?(\d{1,2})d?)?\}")  # a column in a template, and its minimum number of digits
TOP = 20  # lines in which the column names may stand, below a title


@dataclass(frozen=True)
class Records:
    """A CSV as it stands.

    Attributes
    ----------
    header : list of str
        Column names, stripped.
    rows : list of (int, list of str)
        The line that the row begins in (the header's is 1 where nothing stands before it), and its cells.
    short : list of int
        Lines of the rows with fewer cells than the header.
    blank : int
        Number of lines without content, rows of only separators included.
    comments : int
        Number of lines that begin with `#` and are not rows.
    encoding, separator : str
        In words.
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    short: list[int]
    blank: int
    comments: int
    encoding: str
    separator: str


def read_records(path: Path, wanted: list[str], lists: str = "image") -> Records:
    """Read a CSV.

    Parameters
    ----------
    path
        The file: UTF-8, or UTF-16/32 with a byte order mark; separated by comma, semicolon, tab or `|`.
    wanted
        The column names looked for; they decide which character separates.
    lists
        What a row is about.

    Returns
    -------
    Records
        Every row that has content, in the file's order.

    Raises
    ------
    DataError
        Names the file and the row: missing, empty, header only, no text, not UTF-8, a quote left open, more cells than
        columns, the header once more or below a title.
    """
    text, encoding = decode(path)
    start, text, separator = _head(path, text)
    separator = separator or _separator(text, wanted)
    header: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    short: list[int] = []
    blank = comments = 0
    for line, cells in _parse(path, text, separator, start):
        if not any(cells):
            blank += 1
        elif _is_comment(cells, header, wanted):
            comments += 1
        elif not header:
            header = cells[: max(i for i, cell in enumerate(cells, 1) if cell)]
        elif cells[: len(header)] == header:
            raise DataError(f"{path} row {line} repeats the header, as where two files were joined. Delete the row.")
        else:
            short += [line] if len(cells) < len(header) else []
            rows.append((line, cells))
    _check_title(path, header, rows, wanted)
    _check_long(path, header, rows, separator)
    if not rows:
        raise DataError(
            f"{path} {'has a header but no rows' if header else 'is empty'}. It must list one {lists} per row."
        )
    if header[0] == OWN_ROW and all(cells[0].isdecimal() for _, cells in rows):
        header, rows = header[1:], [(int(cells[0]), cells[1:]) for _, cells in rows]
    return Records(header, rows, short, blank, comments, encoding, SEPARATORS[separator])


def _check_title(path: Path, header: list[str], rows: list[tuple[int, list[str]]], wanted: list[str]) -> None:
    """Raise `DataError` where the column names stand below a title that was taken for them."""
    names = {plain(name) for name in wanted}
    if names & {plain(cell) for cell in header}:
        return
    for line, cells in rows[:TOP]:
        if names & {plain(cell) for cell in cells}:
            raise DataError(
                f"{path}: the column names are in row {line}, and above them is {some(header, 1)}. Delete what is "
                "above them."
            )


def _check_long(path: Path, header: list[str], rows: list[tuple[int, list[str]]], separator: str) -> None:
    """Raise `DataError` where rows have more cells than the header."""
    long = [f"row {line}: {len(cells)} cells" for line, cells in rows if any(cells[len(header) :])]
    if not long:
        return
    if len(rows) > 1 and all(len(cells) == len(header) + 1 for _, cells in rows):
        raise DataError(
            f"{path}: every row has one cell more than the header, as R writes row names. Name the first column, too, "
            "or write the table without row names."
        )
    raise DataError(
        f"{path}: {count(len(long), 'row')} with more cells than the header's {len(header)} ({some(long)}). "
        f"Put cells that hold a {SEPARATORS[separator]} in double quotes."
    )


def find_column(header: list[str], name: str, key: str, path: Path) -> int:
    """Return the position of a column; case, spaces and underscores do not count where no name fits exactly.

    `key` is the parameter that names the column, for the error.
    """
    found = [i for i, column in enumerate(header) if column == name]
    found = found or [i for i, column in enumerate(header) if plain(column) == plain(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{path} has {len(found)} columns '{name}' (it has: {', '.join(header)}). Rename or delete all but one."
        )
    needed = ("ingest.columns.path", "labels.tasks.label.column")
    or_null = "" if key in needed else ", or to null where there is none"
    if key.startswith("labels.tasks.") and key != "labels.tasks.label.column":
        or_null += "; for classes of your own take -S labels=from_csv"
    if len(header) == 1 and plain(name) in map(plain, re.split(r"\W+", header[0])):
        if set(header[0]) & set(SEPARATORS):
            raise DataError(f"{path} row 1: {header[0]} is one cell in quotes. Take the quotes around whole rows away.")
        raise DataError(
            f"{path} row 1: '{header[0]}' holds none of the known separators ({', '.join(SEPARATORS.values())}). Save "
            "it with one."
        )
    how = "" if key.startswith("-") else f" (dvc exp run -S {key}=COLUMN)"
    if any(column.lower().endswith(tuple(IMAGE_SUFFIXES)) for column in header):
        raise DataError(
            f"{path} has no column '{name}': its first line is a row ({some(header)}). Put a line of "
            "column names above it."
        )
    raise DataError(
        f"{path} has no column '{name}' (it has: {', '.join(header)}).{nearest(name, header, 0.6)} "
        f"Set {key} to the column's name{or_null}{how}."
    )


def columns_in(name: str) -> list[str]:
    """Name the columns of a template such as `{patient}/{x:04}.png`; without a template, the column itself."""
    return [column for column, _ in FIELD.findall(name)] or [name]


def cell_reader(header: list[str], name: str, key: str, path: Path) -> Callable[[list[str]], str]:
    """Return a function that takes a column's cell from a row, or joins several cells as a template says.

    `{x:04}` writes a number with four digits, zeros before it. Parameters as for `find_column`.
    """
    at = {column: find_column(header, column, key, path) for column in columns_in(name)}

    def cell(cells: list[str], column: str) -> str:
        return cells[at[column]] if at[column] < len(cells) else ""

    if name in at:
        return lambda cells: cell(cells, name)
    return lambda cells: FIELD.sub(lambda found: cell(cells, found[1]).zfill(int(found[2] or 0)), name)


def _head(path: Path, text: str) -> tuple[int, str, str]:
    """Remove Excel's line `sep=;`; return the number of the next line, the text from there, and the separator."""
    found = re.match(r'"?sep=([^\r\n])"?(\r\n|\r|\n)', text)
    if found and found[1] not in SEPARATORS:
        allowed = ", ".join(SEPARATORS.values())
        raise DataError(f"{path} row 1: {found[1]!r} is not a known separator ({allowed}). Save it with one.")
    return (2, text[found.end() :], found[1]) if found else (1, text, "")


def _is_comment(cells: list[str], header: list[str], wanted: list[str]) -> bool:
    """Tell whether a line is a comment: it begins with `#` and is neither the header nor a row with content."""
    if not cells[0].startswith("#"):
        return False
    if header:
        return cells[0].startswith("# ") or not (any(cells[1:]) or cells[0].lower().endswith(tuple(IMAGE_SUFFIXES)))
    names = {plain(name) for name in wanted}
    return not names & {plain(cell) for cell in cells}


def _separator(text: str, wanted: list[str]) -> str:
    """Choose the separator that gives the header most of the wanted columns, or else most columns."""
    names = {plain(name) for name in wanted}

    def score(separator: str) -> tuple[int, int, int]:
        lines = csv.reader(StringIO(text.lstrip(), newline=""), delimiter=separator)
        try:
            rows = (cells for cells in lines if not cells or not _is_comment(cells, [], wanted))
            header, *others = [{plain(cell) for cell in cells} for cells in islice(rows, TOP)] or [set[str]()]
        except csv.Error:  # a quote left open and much text after it: `_parse` will say so
            return 0, 0, 0
        return len(header & names), max((len(cells & names) for cells in others), default=0), len(header)

    return max(SEPARATORS, key=score)


def _content(cell: str) -> str:
    """Return a cell without blanks around it and without `="..."`, which keeps a spreadsheet from changing it."""
    cell = cell.strip()
    return cell[2:-1] if cell.startswith('="') and cell.endswith('"') and len(cell) > 2 else cell


def _parse(path: Path, text: str, separator: str, start: int) -> list[tuple[int, list[str]]]:
    """Split into records, each with the line it begins in; a record with quoted line breaks spans several."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    records, line = [], start
    try:
        for cells in reader:
            records.append((line, [_content(cell) for cell in cells]))
            line = start + reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path} row {line}: {error}. Is a double quote left open, or not doubled inside a cell?"
        ) from None
    return records
