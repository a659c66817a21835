"""Write files whole or not at all, and hash them."""

import csv
import glob
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from biopsy.core.errors import DataError, MachineError, ParamsError, naming, reason_of
from biopsy.core.locks import holds_lock
from biopsy.core.owned import check_owned, names_in, note_made

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("row", "width", "height", "bytes", "brightness")  # columns of numbers in the tables that the stages write
# Ids and paths that match this are rejected, since files are named after them.
PLACES = {"image_id": r"^\.{0,2}$|/", "path": r"^/|^$|(?:^|/)\.\.(?:/|$)"}
LISTED = 50  # items of one kind in a metrics file; the others are counted

AGAIN = "Run `dvc repro` to make it again."
T = TypeVar("T")

# The endings of image files, in small letters, with Pillow's names of the formats.
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
# Those of whole slides, beside TIFF.
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".svslide", ".bif", ".czi", ".dcm", ".btf")


def at_home(path: str | Path) -> Path:
    """Write out `~` and `~user`; where there is no such user, as in `~$note.png`, the name stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def expand(pattern: Path) -> list[Path]:
    """List what a pattern such as `slides/**/*.png` matches, sorted."""
    # `Path.glob` would raise where `**` stands beside other letters.
    return sorted(map(Path, glob.glob(str(pattern), recursive=True, include_hidden=True)))  # noqa: PTH207


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    `path` is replaced, never written into: it may be a hard link into the DVC cache. Raises `ParamsError` where it is a
    folder or a device: root would lose /dev/null.
    """
    if path.is_dir():
        raise ParamsError(f"{path} is a folder. Name a file.")
    if path.absolute().parent == Path("/dev") or (path.exists() and not path.is_file()):
        raise ParamsError(f"{path} is a device or a pipe, and a file would take its place. Name a file.")
    stem = _short(path.stem)
    temporary = path.with_name(f".{stem}.file.{_token()}.tmp{path.suffix}")
    with making(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    for dots in (".", ".."):  # two where a temporary file was itself written in this way, as `write_csv` does
        _remove_leftovers(path.parent, f"{dots}{glob.escape(stem)}.file.*.tmp{path.suffix}")
    try:
        with naming(path, temporary):
            yield temporary
            _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_files(folder: Path, names: Sequence[str]) -> Iterator[list[Path]]:
    """Yield temporary paths for files that are one result; where the block fails, none of them is replaced."""
    with ExitStack() as opened:
        yield [opened.enter_context(atomic_file(folder / name)) for name in names]


@contextmanager
def making(path: Path, temporary: Path) -> Iterator[None]:
    """Put into words that nothing can be made beside `path`, as in /proc, where the system says 'no such file'."""
    try:
        with naming(path, temporary):
            yield
    except FileNotFoundError:
        raise MachineError(f"{path.parent} takes no files. Name another place for {path.name}.") from None


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; put it in the place of `path` when the block ends well.

    Raises `DataError` where `path` holds files of the user's own.
    """
    new, old = (path.with_name(f".{path.name}.{kind}.{_token()}.tmp") for kind in ("new", "old"))
    with making(path, new):
        path.parent.mkdir(parents=True, exist_ok=True)
    _put_back(path)
    check_owned(path)
    with making(path, new):
        new.mkdir()
    try:
        with naming(path, new):
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
    """Make sure that `folder` holds as many files as it should. Raises `MachineError`."""
    found = sum(path.is_file() for path in folder.rglob("*"))
    if found != expected:
        raise MachineError(
            f"{found:,} of {expected:,} files are in {folder}: another process, or the disk, took the others away. "
            "Run `dvc repro` again."
        )


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; NaN and infinity are rejected, because JSON has none."""
    with atomic_file(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        temporary.write_text(text, "utf-8", "backslashreplace")  # a name may hold bytes that are no text


def read_json(path: Path, expected: Mapping[str, type] | None = None, way_out: str = AGAIN) -> Any:
    """Read a JSON file that this pipeline wrote.

    Parameters
    ----------
    path
        The file.
    expected
        Keys that it must have, with the type of each.
    way_out
        What the error tells the user to do.

    Raises
    ------
    DataError
        It is missing, torn, edited into something else, or not ours.
    """
    return parse_json(lambda: path.read_bytes(), path, expected, way_out)


def parse_json(
    content: bytes | Callable[[], bytes],
    name: Path | str,
    expected: Mapping[str, type] | None = None,
    way_out: str = AGAIN,
) -> Any:
    """Do what `read_json` does with bytes, or with what `content` returns; errors call them `name`."""
    found = _parsed(name, lambda: json.loads((content() if callable(content) else content).decode()), way_out)
    if expected is not None:
        if not isinstance(found, dict):
            raise DataError(f"{name} is not a file of this pipeline: it has no keys. {way_out}")
        for key, kind in expected.items():
            if not isinstance(found.get(key), kind):
                raise DataError(f"{name} is not a file of this pipeline: '{key}' is {found.get(key)!r}. {way_out}")
    return found


def write_png(path: Path, figure: Any, dpi: int = 120) -> None:
    """Write a figure of Matplotlib without dates or versions in it: equal figures, equal bytes."""
    with atomic_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in letters that the font lacks
        # Level 3: half the time of Pillow's 6, which is as long as drawing takes, for 7 % more bytes.
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"compress_level": 3})


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` without its index, UTF-8, lines ending in a bare newline."""
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path, need: Sequence[str] = (), way_out: str = AGAIN) -> "pd.DataFrame":
    """Read a table that `write_csv` wrote: all text but NUMBERS, so that labels such as 0 and ids such as 007 stay so.

    An empty cell is an empty string.

    Parameters
    ----------
    path
        The file.
    need
        Columns that it must have.
    way_out
        What the error tells the user to do.

    Raises
    ------
    DataError
        It is missing, torn, or not ours: a column is missing or of another type, a row is short, an id stands twice, or
        an id or path, after which files are named, leads out of the folder.
    """
    import pandas as pd  # not before: the stage that only looks at outside paths would pay a second for it

    def read() -> pd.DataFrame:
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            raise ValueError("it ends in the middle of a row" if data else "it is empty")
        rows = list(csv.reader(StringIO(data.decode(), newline="")))
        if short := next((number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])), None):
            raise ValueError(f"row {short} has not as many cells as its header")
        table = pd.read_csv(BytesIO(data), dtype=str, keep_default_na=False)
        numbers = [column for column in NUMBERS if column in table]
        return table.assign(**{column: pd.to_numeric(table[column]) for column in numbers})

    table = _parsed(path, read, way_out)
    fault = None
    if missing := [column for column in need if column not in table]:
        fault = f"it has no column {missing[0]}"
    elif "image_id" in table and table["image_id"].duplicated().any():
        fault = f"{table.loc[table['image_id'].duplicated(), 'image_id'].iloc[0]} is in it twice"
    elif strange := [
        name
        for column, rule in PLACES.items()
        if column in table
        for name in table.loc[table[column].str.contains(rule, regex=True), column]
    ]:
        fault = f"{strange[0]!r} leads out of the folder of images"
    if fault:
        raise DataError(f"{path} is not a table of this pipeline: {fault}. {way_out}")
    return table


def _parsed(path: Path | str, read: Callable[[], T], way_out: str) -> T:
    """Read, and put errors of a file's bytes into one sentence."""
    try:
        return read()
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {way_out}") from None
    except (IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path} is not a file, or lies in none of the folders that were made. {way_out}") from None
    except (ValueError, RecursionError) as error:  # JSON's, pandas's and UTF-8's errors are ValueErrors
        raise DataError(f"{path} is damaged or not a file of this pipeline ({reason_of(error)}). {way_out}") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file to the disk, so that the rename never shows an empty file after a power cut."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _short(name: str) -> str:
    """Return a name that leaves room for more: a disk takes 255 bytes, and a name of nearly as many is hashed."""
    content = os.fsencode(name)
    return name if len(content) <= 200 else hashlib.sha256(content).hexdigest()


def _token() -> str:
    """Return a name for this process's temporary file, which no other process uses."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _put_back(path: Path) -> None:
    """Undo what a killed run left beside `path`: its half-made folder, and the earlier one if it was put aside."""
    if not holds_lock():  # it may belong to a process that is still at work
        return
    for old in path.parent.glob(f".{glob.escape(path.name)}.old.*.tmp"):
        if not path.exists():
            old.rename(path)
    _remove_leftovers(path.parent, f".{glob.escape(path.name)}.*.tmp")


def _remove_leftovers(folder: Path, pattern: str) -> None:
    if holds_lock():
        for left in folder.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
