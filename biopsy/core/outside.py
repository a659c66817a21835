"""Files and folders outside the project: `dvc repro` sees when the user changes them.

DVC watches what dvc.yaml names, and a path in a parameter is not there. So a stage that reads such paths notes in
`data/outside.yaml` what it found, and depends on its note. From then on the stage `outside` checks them first in every
`dvc repro`; dvc.yaml has this stage only where the file lists something to watch.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from biopsy.core.errors import BiopsyError, DataError
from biopsy.core.files import IMAGE_SUFFIXES, at_home, atomic_file, sha256
from biopsy.core.stores import is_address, list_objects

FILE = Path("data/outside.yaml")
STAGES = ("fetch", "split", "stain", "train")
HASHED = 64 << 20  # bytes: a larger file is compared by size and time, so that checking stays quick
HEAD = (
    "# What the stages read outside the project, so that `dvc repro` sees a change. They write this file; "
    "biopsy/core/outside.py.\n"
)


@dataclass(frozen=True)
class Outside:
    """A path of the user's.

    Attributes
    ----------
    key
        The parameter that names it.
    path
        A file or a folder of images, or the address of an object store.
    copy
        Where the pipeline keeps its copy; errors about it name the user's path.
    """

    key: str
    path: Path | str
    copy: str | None = None


@contextmanager
def watch(stage: str, paths: Sequence[Outside], root: Path = Path()) -> Iterator[None]:
    """Note for `stage` what `paths` held when the block began, if it ends well."""
    found: dict[str, Any] = {}
    look = cache(measure)  # a folder may stand for images and table
    for outside in paths:
        facts = look(outside.path)
        if facts is not None:  # what is missing is the stage's to complain of
            copy = {"copy": outside.copy} if outside.copy else {}
            found[outside.key] = {"path": str(outside.path), **copy, **facts}
    yield
    _write(root, {**_read(root), stage: found})


def look_again(root: Path = Path()) -> list[str]:
    """Measure every noted path anew.

    Returns
    -------
    list of str
        The paths that are not on this machine, as in a clone: their notes stay, and so do the results made from them.
    """
    notes, missing, look = _read(root), [], cache(measure)
    for stage in STAGES:
        for key, note in notes[stage].items():
            facts = look(note["path"])
            if facts is None:
                missing.append(f"{key} ({note['path']})")
            else:
                notes[stage][key] = {name: note[name] for name in ("path", "copy") if name in note} | facts
    _write(root, notes)
    return missing


def measure(path: Path | str) -> dict[str, Any] | None:
    """Describe a file by size and SHA-256 (size and time above 64 MB), a folder by all of its images; None: missing.

    Objects of a store are described by what the store says; None also where it does not answer.
    """
    if is_address(path):
        return _measure_objects(str(path))
    try:
        path = at_home(path)
        if path.is_dir():
            return _measure_folder(path)
        stat = path.stat()
        if not path.is_file():
            return {"size": stat.st_size}
        return {"size": stat.st_size} | (
            {"sha256": sha256(path)} if stat.st_size <= HASHED else {"mtime_ns": stat.st_mtime_ns}
        )
    except (OSError, RuntimeError):
        return None


def own_names(text: str, root: Path = Path()) -> str:
    """Replace the names of our copies in a message by those of the user's files."""
    try:
        notes = _read(root)
    except DataError:
        return text
    copies = {n["copy"]: n["path"] for stage in notes.values() for n in stage.values() if "copy" in n}
    for copy in sorted(copies, key=len, reverse=True):
        text = text.replace(copy, copies[copy].rstrip("/"))
    return text


def _measure_objects(address: str) -> dict[str, Any] | None:
    try:
        objects = list_objects(address, "")
    except BiopsyError:
        return None
    if [each.name for each in objects] == [""]:
        return {"size": objects[0].size, "tag": objects[0].tag}
    images = [each for each in objects if PurePosixPath(each.name).suffix.lower() in IMAGE_SUFFIXES]
    listing = "".join(f"{each.name}\0{each.size}\0{each.tag}\n" for each in images)
    total = sum(each.size for each in images)
    return {"images": len(images), "bytes": total, "listing": hashlib.sha256(listing.encode()).hexdigest()}


def _measure_folder(folder: Path) -> dict[str, Any]:
    found, count, total = hashlib.sha256(), 0, 0
    seen = {folder.resolve()}
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if Path(where, name).resolve() not in seen)
        seen.update(Path(where, name).resolve() for name in folders)
        for name in sorted(names):
            path = Path(where, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                stat = path.stat()
                line = f"{path.relative_to(folder).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
                found.update(os.fsencode(line))
                count, total = count + 1, total + stat.st_size
    return {"images": count, "bytes": total, "listing": found.hexdigest()}


def _read(root: Path) -> dict[str, dict[str, Any]]:
    path = root / FILE
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return {stage: dict((content or {}).get(stage) or {}) for stage in STAGES}
    except FileNotFoundError:
        return {stage: {} for stage in STAGES}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError, RecursionError):
        raise DataError(f"{path} is damaged. Restore it with `git checkout {FILE}`.") from None


def _write(root: Path, notes: dict[str, dict[str, Any]]) -> None:
    """Write the notes, and whether there is anything to watch: dvc.yaml makes a stage of each entry of `watched`."""
    content = {"watched": ["paths"] if any(notes.values()) else [], **notes}
    text = HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    path = root / FILE
    if not path.is_file() or path.read_text("utf-8") != text:
        with atomic_file(path) as temporary:
            temporary.write_text(text, "utf-8")
