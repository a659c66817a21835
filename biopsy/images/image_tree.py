"""A tree of images, one PNG per image_id (above a limit in archives): made in parallel, whole, and never twice.

New files gather in a staging folder, and a journal says which are whole. When all are made, they are renamed into the
tree, so a failure leaves the earlier tree as it was. Nothing is ever written into an existing file, which may be a hard
link into the DVC cache.
"""

import hashlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from biopsy.core.engine import LOCAL
from biopsy.core.errors import naming
from biopsy.core.files import check_count
from biopsy.core.journal import Entry, Journal
from biopsy.core.layout import resized_path
from biopsy.core.owned import check_owned, note_made
from biopsy.core.shards import names_in, place_of, read_file, shards_for, shards_in, write_shard
from biopsy.images.preparation.record import FILE, Preparation, write_preparation

CHUNK = 256  # jobs handed to the threads at a time: bounds what waits in memory, and what Ctrl-C waits for

Row = dict[str, Any]
Make = Callable[[], tuple[bytes, str]]


class Recipe(NamedTuple):
    """How one image is made: a name for its source and the code, and a function that returns its PNG and a note."""

    made_of: str
    make: Make


def run_here(makes: Sequence[Make]) -> list[tuple[bytes, str]]:
    """Make several images, one after the other."""
    return [make() for make in makes]


class Maker(NamedTuple):
    """Who makes the images.

    Attributes
    ----------
    recipe
        From a row to the recipe of its image.
    title
        The name of the work in the progress bar.
    run
        Makes several images; called in `width` threads, each time for `batch` rows, without images that are whole.
    """

    recipe: Callable[[Row], Recipe]
    title: str
    run: Callable[[Sequence[Make]], list[tuple[bytes, str]]] = run_here
    width: int = LOCAL.width
    batch: int = 1


@dataclass(frozen=True)
class Tree:
    """One run over a tree: its folder, its archives before, staging folder, journal, and how images are made."""

    root: Path
    archives: int
    staging: Path
    journal: Journal
    preparation: Preparation
    maker: Maker

    def key(self, recipe: Recipe) -> str:
        """Name all that an image depends on: its source, the code, and the whole preparation."""
        return hashlib.sha256(f"{recipe.made_of} {self.preparation.model_dump_json()}".encode()).hexdigest()

    def make(self, rows: Sequence[Row]) -> list[str]:
        """Make the images that are not whole yet in the staging folder; return "kept" or "made" for each."""
        recipes = {row["image_id"]: self.maker.recipe(row) for row in rows}
        waiting = {name: recipe for name, recipe in recipes.items() if not self._is_whole(name, self.key(recipe))}
        for name in waiting:
            (self.staging / resized_path(name)).unlink(missing_ok=True)
        made = self.maker.run([recipe.make for recipe in waiting.values()]) if waiting else []
        for (name, recipe), (data, note) in zip(waiting.items(), made, strict=True):
            _write(self.staging / resized_path(name), data)
            self.journal.add(name, Entry(self.key(recipe), hashlib.sha256(data).hexdigest(), note))
        return ["made" if name in waiting else "kept" for name in recipes]

    def _is_whole(self, image_id: str, key: str) -> bool:
        known = self.journal.entries.get(image_id)
        if known is None or known.key != key:
            return False
        places = self.staging / resized_path(image_id), self.root / place_of(image_id, self.archives)
        return any(_sha256(place) == known.sha256 for place in places)

    def pack(self, image_ids: Sequence[str], archives: int) -> None:
        """Put into the staging folder what the tree lacks to have its images in this number of archives."""
        if not archives:
            for image_id in image_ids if self.archives else []:
                _write(self.staging / resized_path(image_id), self._content(image_id))
            return
        members: dict[Path, list[str]] = {}
        for image_id in sorted(image_ids):
            members.setdefault(place_of(image_id, archives).parent, []).append(image_id)
        for archive, ids in tqdm(members.items(), f"{self.maker.title}: pack", delay=2):
            names, target = [resized_path(image_id) for image_id in ids], self.staging / archive
            target.unlink(missing_ok=True)  # of an earlier run that was stopped
            staged = any((self.staging / name).is_file() for name in names)
            if staged or names_in(self.root / archive) != names:
                with naming(self.root / archive):
                    write_shard(target, ((name, self._content(i)) for name, i in zip(names, ids, strict=True)))

    def _content(self, image_id: str) -> bytes:
        staged = self.staging / resized_path(image_id)
        return read_file(staged if staged.is_file() else self.root / place_of(image_id, self.archives))


def build_tree(
    rows: list[Row],
    root: Path,
    work: Path,
    preparation: Preparation,
    maker: Maker,
    within: Mapping[str, Preparation] | None = None,
) -> tuple[Counter[str], dict[str, str]]:
    """Bring a tree up to date with its rows.

    Parameters
    ----------
    rows
        Each with `image_id` and what `recipe` reads.
    root
        The tree `<image_id>.png`, in archives above a limit (`shards.py`); views are stacked one below the other.
        Beside them: `preparation.json`.
    work
        The folder of the files that are not yet in the tree, on the tree's file system; the journal is `<work>.jsonl`.
    preparation
        How its images are made; if any of it changes, all are made again.
    maker
        How images are made from their rows.
    within
        The preparation of the images of each folder of the tree, where these differ; their ids begin with '<folder>/'.

    Returns
    -------
    counts : Counter
        `made`, `kept`, `removed` (files of the tree that belong to no row).
    notes : dict
        The note about each image, by image_id, kept images included.

    Raises
    ------
    DataError
        The tree holds files of the user's own.
    """
    archives = shards_for(len(rows))
    image_ids = [row["image_id"] for row in rows]
    places = [place_of(image_id, archives) for image_id in image_ids]
    wanted = {place.parent for place in places} if archives else set(places)
    described = {Path(folder): how for folder, how in {"": preparation, **(within or {})}.items()}
    ours = [path.as_posix() for path in (*(folder / FILE for folder in described), *wanted)]
    check_owned(root, ours)
    tree = Tree(root, shards_in(root), work, Journal.open(work.with_name(f"{work.name}.jsonl")), preparation, maker)
    counts: Counter[str] = Counter()
    cv2.setNumThreads(1)  # the images are the parallel unit
    with ThreadPoolExecutor(maker.width) as pool, tqdm(total=len(rows), desc=maker.title, delay=2) as bar:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            for outcomes in pool.map(
                tree.make, [chunk[i : i + maker.batch] for i in range(0, len(chunk), maker.batch)]
            ):
                counts.update(outcomes)
                bar.update(len(outcomes))
    tree.pack(image_ids, archives)
    note_made(root, ours)  # before the first of them is there
    for folder in described:  # until the last file is in place, the tree must not pass as whole
        (root / folder / FILE).unlink(missing_ok=True)
    counts["removed"] = _remove_others(root, wanted)
    root.mkdir(parents=True, exist_ok=True)
    for target in sorted(wanted):
        if (work / target).exists():
            (root / target).parent.mkdir(exist_ok=True)
            (work / target).replace(root / target)
    check_count(root, len(wanted))
    for folder, how in described.items():
        write_preparation(root / folder, how)
    note_made(root)
    shutil.rmtree(work, ignore_errors=True)
    tree.journal.keep_only(set(image_ids))
    return counts, {image_id: tree.journal.entries[image_id].note for image_id in image_ids}


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return None  # to be made again


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or none. Not forced to the disk: after a power cut the journal's hash finds what is torn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    try:
        with naming(path):
            temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_others(root: Path, wanted: set[Path]) -> int:
    """Remove files and folders below `root` that no row of the labels asks for; return the number of files."""
    removed = 0
    for folder, names, files in os.walk(root, topdown=False):
        for name in (*files, *names):
            path = Path(folder, name)
            if path.is_dir() and not path.is_symlink():
                if path.relative_to(root) in wanted or not any(path.iterdir()):
                    shutil.rmtree(path)
            elif path.relative_to(root) not in wanted:
                path.unlink()
                removed += 1
    return removed
