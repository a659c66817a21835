"""The files in folders: which are images, and which of these this package drew."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from biopsy.core.errors import DataError
from biopsy.core.files import IMAGE_SUFFIXES

EXPLAINED = "-explained.png"  # what `biopsy explain` draws
HEATMAPS, TILES = ("heatmap.png", "heatmap.tif"), "tiles.csv"  # what `biopsy predict` writes for a slide


def is_image(name: str) -> bool:
    """Say whether a file name ends like an image's, in any case, and is not one of macOS's `._` companions."""
    return name.lower().endswith(tuple(IMAGE_SUFFIXES)) and not name.startswith("._")


def walk(folder: Path, closed: list[Path] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through a folder and all below it, links followed, each once: yield a folder, its folders and its files.

    Parameters
    ----------
    folder
        Where to begin.
    closed
        Filled with the folders below it that cannot be read; None: such a folder is an error.

    Raises
    ------
    DataError
        A folder that cannot be read: it must not pass as an empty one.
    """

    def refuse(error: OSError) -> None:
        if closed is not None and Path(error.filename) != folder:
            closed.append(Path(error.filename))
            return
        raise DataError(f"no way to read the folder {error.filename} ({error.strerror}). Allow it (chmod u+rx).")

    seen = {folder.resolve()}  # a link to a folder above it would go round for ever
    for where, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [name for name in folders if Path(where, name).resolve() not in seen]
        seen.update(Path(where, name).resolve() for name in folders)
        yield Path(where), folders, names


def files_below(folder: Path, closed: list[Path] | None = None) -> list[Path]:
    """List all files in a folder and below it, sorted; see `walk`."""
    return sorted(where / name for where, _, names in walk(folder, closed) for name in names)


def names_below(folder: Path, is_kind: Callable[[Path], bool]) -> list[str]:
    """List the files of a kind in a folder and all below it, with `/` and relative to it."""
    return [path.relative_to(folder).as_posix() for path in files_below(folder) if is_kind(path)]


def is_file(path: Path) -> bool:
    """Tell whether a path is a file; True also where that may not be known, so that reading it says why."""
    try:
        return path.is_file()
    except PermissionError:
        return True
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def is_drawn(path: Path) -> bool:
    """Tell whether `biopsy explain` or `biopsy predict` drew an image, so that it is not one of the user's."""
    return path.name.endswith(EXPLAINED) or (path.name in HEATMAPS and (path.parent / TILES).is_file())
