"""The user's files and folders, as parameters name them: found, or an error in a sentence."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from biopsy.core.errors import DataError, SourceError
from biopsy.core.files import LISTED
from biopsy.core.folders import is_image
from biopsy.core.matching import loose_name
from biopsy.core.rawcsv import read_records
from biopsy.core.text import QUOTES
from biopsy.sources.gather import find_images

UNNAMED = "not named in the CSV"
LOOKED_AT = 1000  # rows


def expand(path: str, key: str) -> Path:
    """Write out `~`. Raises `SourceError` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SourceError(f"{key}: {path} begins with a user who has no home here. Write the whole path.") from None


def user_file(path: str | None, key: str) -> Path:
    """Return the user's file. Raises `SourceError` where there is none."""
    file = expand(path or "", key)
    if file.is_dir():
        raise SourceError(f"{key}: {file} is a folder, not a CSV file.")
    if not file.is_file():
        raise SourceError(f"{key}: {file} is missing. Paths are relative to the project's folder {Path.cwd()}.")
    return file


def gather(root: Path, folder: Path, key: str) -> tuple[list[str], Counter[str]]:
    """List the images below `root`, which must not hold `folder`, the one that is being filled."""
    if folder.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"{key}: {root} contains this pipeline's own data. Name the folder of your images alone.")
    return find_images(root)


def named_by(csv: Path | None) -> Callable[[str], bool]:
    """Return a function that says whether a CSV may name an image: one of its cells ends with the file's name.

    Letter case, Unicode form and an image's ending do not count; `ingest` compares more strictly. Which column holds
    the paths is not known here. No CSV, or one that cannot be read (`ingest` says why), names all images.
    """
    rows = _rows(csv)
    names = _names_in(cell for row in rows for cell in row)
    return lambda path: not rows or bool(names & _names_of(path))


def keep_named(paths: Sequence[str], csv: Path | None) -> tuple[list[str], dict[str, int]]:
    """Leave out and count the images that a CSV does not name; without a CSV keep all.

    All are also kept if no column names images in half of its first rows: `ingest.columns.path`, which is not known
    here, may be a template that joins several columns.
    """
    rows, spelled = _rows(csv), [_names_of(path) for path in paths]
    first, there = rows[1 : LOOKED_AT + 1], set[str]().union(*spelled)
    columns = zip_longest(*first, fillvalue="")
    if not any(2 * sum(bool(there & _names_in([cell])) for cell in column) >= len(first) for column in columns):
        return list(paths), {UNNAMED: 0}
    names = _names_in(cell for row in rows for cell in row)
    kept = [path for path, own in zip(paths, spelled, strict=True) if own & names]
    return kept, {UNNAMED: len(paths) - len(kept)}


def _rows(csv: Path | None) -> list[list[str]]:
    """Return the header, which is a row where there is none or it begins with `#`, and all rows."""
    try:
        records = read_records(csv, []) if csv else None
    except DataError:
        return []
    return [records.header, *(row for _, row in records.rows)] if records else []


def _names_of(path: str) -> set[str]:
    return {_name(path), _name(PurePosixPath(path).name.split(".")[0])}


def _names_in(cells: Iterable[str]) -> set[str]:
    """Read cells as paths, and each as several cells of a table with another separator."""
    found = set(cells)
    found |= {part.strip(f"\t{QUOTES}") for cell in found for part in re.split("[,;|\t]", cell)}
    return {_name(text) for text in found}


def odd_files(root: Path, csv: Path) -> dict[str, str]:
    """Say what the paths of a CSV lead to if not to a file, for `ingest` to report; at most LISTED of them."""
    cells = dict.fromkeys(cell for row in _rows(csv) for cell in row if is_image(cell))
    kinds = ((cell, _kind(root / cell)) for cell in cells)
    return dict(islice(((cell, kind) for cell, kind in kinds if kind), LISTED))


def _kind(path: Path) -> str:
    try:
        if path.is_file() or not os.path.lexists(path):
            return ""
        if not path.exists():
            return f"is a broken link, to {path.readlink()}"
        return "is a folder" if path.is_dir() else "is a pipe or a device"
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return ""


def _name(path: str) -> str:
    """Reduce a path's last part as `core.matching` does when it looks for the file."""
    return loose_name(path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])


def make_facts(
    source: str, description: str, images: int, left_out: Mapping[str, int], synthetic: bool = False
) -> dict[str, Any]:
    """Return the content of `source.json`; `left_out` counts by reason what was not taken."""
    left_out = {reason: count for reason, count in sorted(left_out.items()) if count}
    return {
        "source": source,
        "synthetic": synthetic,
        "description": description,
        "images": images,
        "left_out": left_out,
    }


def counted(left_out: Mapping[str, int]) -> str:
    """Put counts into words: `2 not an image, 1 broken link`."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()) if count)
