"""Read the bytes of anybody's CSV into records: encoding, separator, quotes, short, long and blank rows."""

import codecs
import csv
import re
import stat
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from biopsy.core.errors import DataError, nearest, some
from biopsy.core.files import IMAGE_SUFFIXES
from biopsy.core.text import plain

# UTF-32 stands before UTF-16, whose little-endian mark begins its own.
MARKS = {
    codecs.BOM_UTF8: ("utf-8", "UTF-8 with BOM"),
    codecs.BOM_UTF32_LE: ("utf-32-le", "UTF-32"),
    codecs.BOM_UTF32_BE: ("utf-32-be", "UTF-32"),
    codecs.BOM_UTF16_LE: ("utf-16-le", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16-be", "UTF-16"),
}
NOT_TEXT = {  # how files begin that people name instead of a CSV
    b"\x89PNG": "an image", b"\xff\xd8\xff": "an image", b"II*\0": "an image", b"MM\0*": "an image",
    b"PK\x03\x04": "an Excel file or a zip archive", b"\xd0\xcf\x11\xe0": "an Excel file",
}  # fmt: skip
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


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
        Number of lines without content, rows of separators alone included.
    comments : int
        Number of lines that begin with `#` and are no row.
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
        The file: UTF-8, or UTF-16/32 with a byte order mark; separated by comma, semicolon or tab.
    wanted
        The column names looked for; they settle which character separates.
    lists
        What a row is about.

    Returns
    -------
    Records
        Every row that has content, in the file's order.

    Raises
    ------
    DataError
        Names the file and the row: missing, empty, header only, not UTF-8, a quote left open, more cells than columns.
    """
    text, encoding = _decode(path)
    start, text, separator = _head(path, text)
    separator = separator or _separator(text, wanted)
    header: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    short: list[int] = []
    long: list[str] = []
    blank = comments = 0
    for line, cells in _parse(path, text, separator, start):
        if not any(cells):
            blank += 1
        elif _is_comment(cells, header, wanted):
            comments += 1
        elif not header:
            header = cells[: max(i for i, cell in enumerate(cells, 1) if cell)]
        else:
            if any(cells[len(header) :]):
                long.append(f"row {line}: {len(cells)} cells")
            elif len(cells) < len(header):
                short.append(line)
            rows.append((line, cells))
    if long:
        raise DataError(
            f"{path}: {count_rows(len(long))} with more cells than the header's {len(header)} ({some(long)}). "
            f"Put cells that hold a {SEPARATORS[separator]} in double quotes."
        )
    if not rows:
        raise DataError(
            f"{path} {'has a header but no rows' if header else 'is empty'}. It must list one {lists} per row."
        )
    return Records(header, rows, short, blank, comments, encoding, SEPARATORS[separator])


def find_column(header: list[str], name: str, key: str, path: Path) -> int:
    """Return the position of a column, compared without case, spaces and underscores where no name fits exactly.

    `key` is the parameter that names the column, for the error.
    """
    found = [i for i, column in enumerate(header) if column == name]
    found = found or [i for i, column in enumerate(header) if plain(column) == plain(name)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} columns" if found else "no column"
    or_null = "" if key == "ingest.columns.path" else ", or to null where there is none"
    raise DataError(
        f"{path} has {problem} '{name}' (it has: {', '.join(header)}).{nearest(name, header, 0.6)} "
        f"Set {key} to the column's name{or_null}."
    )


def count_rows(count: int) -> str:
    """Return `1 row` or `7,488 rows`."""
    return f"{count} row" if count == 1 else f"{count:,} rows"


def _decode(path: Path) -> tuple[str, str]:
    """Return the file's text, and its encoding in words."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise DataError(f"{path} is a pipe or a device, not a file. Save the table in a file and name that.")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing. `dvc repro` makes it from the source that data.source names.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a CSV file.") from None
    if kind := next((kind for magic, kind in NOT_TEXT.items() if data.startswith(magic)), ""):
        raise DataError(f"{path} is {kind}, not a CSV. Name a CSV, which a spreadsheet can save as 'CSV UTF-8'.")
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    codec, encoding = MARKS.get(mark, ("utf-8", "UTF-8"))
    way_out = "Save the file as UTF-8 (in Excel: 'CSV UTF-8')."
    try:
        text = data[len(mark) :].decode(codec)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].decode(codec, "ignore").count("\n") + 1
        raise DataError(
            f"{path} line {line}: byte 0x{error.object[error.start]:02X} is not {encoding}. {way_out}"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path} line {line}: has a zero byte, as UTF-16 without a byte order mark does. {way_out}")
    return text, encoding


def _head(path: Path, text: str) -> tuple[int, str, str]:
    """Take off Excel's line `sep=;`: the first line that is left, the text from there, and the separator it names."""
    found = re.match(r'"?sep=([^\r\n])"?(\r\n|\r|\n)', text)
    if found and found[1] not in SEPARATORS:
        allowed = ", ".join(SEPARATORS.values())
        raise DataError(f"{path} row 1: {found[1]!r} is not a known separator ({allowed}). Save it with one.")
    return (2, text[found.end() :], found[1]) if found else (1, text, "")


def _is_comment(cells: list[str], header: list[str], wanted: list[str]) -> bool:
    """Tell whether a line is a comment: it begins with `#` and is not the header nor, after it, a row with content."""
    if not cells[0].startswith("#"):
        return False
    if header:
        return cells[0].startswith("# ") or not (any(cells[1:]) or cells[0].lower().endswith(tuple(IMAGE_SUFFIXES)))
    names = {plain(name) for name in wanted}
    return not names & {plain(cell) for cell in cells}


def _separator(text: str, wanted: list[str]) -> str:
    """Choose the separator under which the header holds most of the wanted columns, or else most columns."""
    names = {plain(name) for name in wanted}

    def score(separator: str) -> tuple[int, int]:
        lines = csv.reader(StringIO(text.lstrip(), newline=""), delimiter=separator)
        try:
            rows = (cells for cells in lines if not cells or not _is_comment(cells, [], wanted))
            header = {plain(cell) for cell in next(rows, [])}
        except csv.Error:  # a quote left open and much text after it: `_parse` will say so
            return 0, 0
        return len(header & names), len(header)

    return max(SEPARATORS, key=score)


def _parse(path: Path, text: str, separator: str, start: int) -> list[tuple[int, list[str]]]:
    """Split into records, each with the line it begins in; a record with quoted line breaks spans several."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    records, line = [], start
    try:
        for cells in reader:
            records.append((line, [cell.strip() for cell in cells]))
            line = start + reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path} row {line}: {error}. Is a double quote left open, or not doubled inside a cell?"
        ) from None
    return records
