"""Which files in a folder that a stage replaces are the user's: these are never deleted.

A stage notes what it wrote in `.<folder>.made.json` beside the folder. Another file, or one edited since, is deleted
only if DVC's cache holds the same bytes, as after `dvc pull` or `dvc checkout`.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from biopsy.core.errors import DataError, MachineError, some

JUNK = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave everywhere


def check_owned(folder: Path, ours: Collection[str] | None = None) -> None:
    """Make sure that nothing of the user's own is lost when `folder` is replaced.

    Parameters
    ----------
    folder
        An output folder of a stage; it need not exist.
    ours
        Files that the stage will write, as paths within the folder, and may overwrite even if edited. None: an edited
        file counts as the user's own.

    Raises
    ------
    DataError
        Names the files.
    """
    made = _read_note(folder)
    if ours is not None:
        made = dict.fromkeys((*made, *ours))
    unknown = [path for path in _files(folder) if not _as_made(path, made.get(_name(path, folder), ()))]
    mine = _not_in_dvc_cache(unknown, folder)
    if mine:
        names = some(sorted(_name(path, folder) for path in mine))
        raise DataError(
            f"{folder}, which this stage replaces, holds files that it did not write, or that were edited since: "
            f"{names}. Move them elsewhere (data.source local reads your own images), then run `dvc repro` again."
        )


def note_made(folder: Path, also: Iterable[str] = ()) -> None:
    """Note that all files of `folder` are this pipeline's, and the files `also`, which are being written."""
    note: dict[str, list[int] | None] = dict.fromkeys(also)
    for path in _files(folder):
        found = path.lstat()
        note.setdefault(_name(path, folder), [found.st_size, found.st_mtime_ns])
    note_path = _note_path(folder)
    note_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = note_path.with_name(f"{note_path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(note), "utf-8")
    temporary.replace(note_path)


def names_in(folder: Path) -> list[str]:
    """Return the paths of all files below `folder`, relative to it, with `/`."""
    return [_name(path, folder) for path in _files(folder)]


def _note_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.made.json")


def _read_note(folder: Path) -> dict[str, list[int] | None]:
    """Return size and time of each file that was made, None for those noted by name alone."""
    try:
        note = json.loads(_note_path(folder).read_text("utf-8"))
    except (OSError, ValueError):  # none, or not ours: then DVC's cache decides
        return {}
    return note if isinstance(note, dict) else {}


def _files(folder: Path) -> Iterator[Path]:
    """Yield all that is not a folder, links to folders included; `folder` itself where it is no folder."""
    if folder.is_file():
        yield folder
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if Path(where, name).is_symlink()]
        yield from (Path(where, name) for name in (*names, *links) if name not in JUNK)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else folder.name


def _as_made(path: Path, made: object) -> bool:
    if made == ():
        return False
    found = path.lstat()
    return made is None or made == [found.st_size, found.st_mtime_ns]


def _not_in_dvc_cache(files: list[Path], folder: Path) -> list[Path]:
    """Return the files whose bytes DVC could not restore."""
    root = next((parent for parent in folder.resolve().parents if (parent / ".dvc").is_dir()), None)
    if not files or root is None:
        return files
    from dvc.repo import Repo  # a second, which only a doubtful file costs

    try:
        with Repo(str(root)) as repo:
            cache = Path(repo.cache.local.path)
    except sqlite3.OperationalError as error:  # DVC keeps an index in a database
        raise MachineError(
            f"DVC cannot write its index ({error}): the disk is full, or a limit on the size of files (ulimit -f) is "
            "reached. Free some space, or raise the limit, then run `dvc repro` again."
        ) from None
    return [path for path in files if not (path.is_file() and _object(path, cache).is_file())]


def _object(path: Path, cache: Path) -> Path:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return cache / digest[:2] / digest[2:]
