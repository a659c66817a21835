"""Write files whole or not at all, and hash them."""

import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biopsy.core.errors import MachineError, naming
from biopsy.core.locks import holds_lock
from biopsy.core.owned import check_owned, names_in, note_made

if TYPE_CHECKING:
    import pandas as pd

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
    _remove_leftovers(path.parent, f".{glob.escape(path.stem)}.file.*.tmp{path.suffix}")
    temporary = path.with_name(f".{path.stem}.file.{_token()}.tmp{path.suffix}")
    try:
        with naming(path):
            yield temporary
            _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; put it in the place of `path` when the block ends well.

    Raises `DataError` where `path` holds files of the user's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _put_back(path)
    check_owned(path)
    new, old = (path.with_name(f".{path.name}.{kind}.{_token()}.tmp") for kind in ("new", "old"))
    new.mkdir()
    try:
        with naming(path):
            yield new
        check_owned(path)  # hours may have passed
        note_made(path, names_in(new))  # before the renames, between which the machine may stop
        if path.exists():
            path.rename(old)
        new.rename(path)
        note_made(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for left in (new, old):
            left.unlink() if left.is_symlink() else shutil.rmtree(left, ignore_errors=True)


def check_count(folder: Path, expected: int) -> None:
    """Count the files below `folder` before anybody takes it for whole. Raises `MachineError`."""
    found = sum(path.is_file() for path in folder.rglob("*"))
    if found != expected:
        raise MachineError(
            f"{found:,} of {expected:,} files are in {folder}: another process, or the disk, took the others away. "
            "Run `dvc repro` again."
        )


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; NaN and infinity are refused, since JSON has none."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that this pipeline wrote."""
    return json.loads(path.read_text("utf-8"))


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` without its index, UTF-8, lines ending in a bare newline."""
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path) -> "pd.DataFrame":
    """Read a table that `write_csv` wrote; empty cells of text columns are empty strings.

    Identifier columns (`image_id`, `slide`, `case`, `subtype`, ...) stay text, leading zeros included.
    """
    import pandas as pd  # not before: the stage that only looks at outside paths would pay a second for it

    text = ("image_id", "path", "class", "subtype", "slide", "case", "mode", "sha256", "pixels_sha256", "part")
    return pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values={"magnification": [""]})


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file to the disk, so that the rename never shows an empty file after a power cut."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _token() -> str:
    """Name what this process alone writes; two of them must not meet in one temporary file."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _put_back(path: Path) -> None:
    """Undo what a killed run left beside `path`: its half-made folder, and the earlier one if it was put aside."""
    if not holds_lock():  # it may be somebody's who is still at work
        return
    for old in path.parent.glob(f".{glob.escape(path.name)}.old.*.tmp"):
        if not path.exists():
            old.rename(path)
    _remove_leftovers(path.parent, f".{glob.escape(path.name)}.*.tmp")


def _remove_leftovers(folder: Path, pattern: str) -> None:
    if holds_lock():
        for left in folder.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
