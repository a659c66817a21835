"""Write files whole or not at all, and hash them."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

NUMBERS = ("row", "width", "height", "bytes", "brightness")  # columns of numbers in the tables that the stages write
LISTED = 50  # items of one kind in a metrics file; the others are counted

# The endings of image files, in small letters, with the formats that Pillow calls by these names.
IMAGE_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".gif": "GIF",
}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    `path` is replaced, never written into: it may be a hard link into the DVC cache.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")  # a fixed name: a killed run's is overwritten
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; put it in the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = path.with_name(f".{path.name}.new.tmp"), path.with_name(f".{path.name}.old.tmp")
    if old.exists() and not path.exists():  # a run was killed between the two renames
        old.rename(path)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; NaN and infinity are refused, since JSON has none."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that this pipeline wrote."""
    return json.loads(path.read_text("utf-8"))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write `table` without its index, UTF-8, lines ending in a bare newline."""
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that `write_csv` wrote: text but for NUMBERS, so that labels such as 0 and ids such as 007 stay so.

    An empty cell is an empty string.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = [column for column in NUMBERS if column in table]
    return table.assign(**{column: pd.to_numeric(table[column]) for column in numbers})


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file to the disk, so that the rename never shows an empty file after a power cut."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
