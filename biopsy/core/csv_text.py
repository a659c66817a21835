"""The text of a user's CSV: its encoding, and files that are not CSVs at all."""

import codecs
import stat
from pathlib import Path

from biopsy.core.errors import DataError

# UTF-32 stands before UTF-16, whose little-endian mark begins its own.
MARKS = {
    codecs.BOM_UTF8: ("utf-8", "UTF-8 with BOM"),
    codecs.BOM_UTF32_LE: ("utf-32-le", "UTF-32"),
    codecs.BOM_UTF32_BE: ("utf-32-be", "UTF-32"),
    codecs.BOM_UTF16_LE: ("utf-16-le", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16-be", "UTF-16"),
}
NOT_TEXT = {  # the first bytes of files that people name instead of a CSV
    b"\x89PNG": "an image", b"\xff\xd8\xff": "an image", b"II*\0": "an image", b"MM\0*": "an image",
    b"PK\x03\x04": "an Excel file or a zip archive", b"\xd0\xcf\x11\xe0": "an Excel file",
    b"\x1f\x8b": "compressed (gzip)", b"PAR1": "a Parquet file", b"%PDF": "a PDF", b"SQLite format 3": "a database",
    b"version https://git-lfs": "a Git LFS pointer (run `git lfs pull` where it comes from)",
    b"{": "JSON", b"[": "JSON", b"<": "a page (HTML or XML)",
}  # fmt: skip


def decode(path: Path) -> tuple[str, str]:
    """Return a file's text, and its encoding in words. Raises `DataError` where it is missing or not text."""
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
