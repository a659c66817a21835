"""The tree of resized images: made in parallel, whole or not at all, and never twice.

New files gather in `<resume>/resized` and a journal says which are whole. They are renamed into the tree when all are
made, so a failure leaves the earlier tree as it was, and nothing is ever written into a file, which may be a hard link
into the DVC cache.
"""

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
from tqdm import tqdm

from biopsy.errors import DataError
from biopsy.files import atomic_file
from biopsy.images import ImageError, hash_pixels, read_rgb
from biopsy.layout import resized_path
from biopsy.resize import METHOD, Image, encode_png, resize_rgb
from biopsy.sections import Resize

CHUNK = 256  # jobs handed to the threads at a time: bounds what waits in memory, and what Ctrl-C waits for


@dataclass(frozen=True)
class Journal:
    """Which files are whole: one JSON line per file, appended after its rename; survives SIGKILL at any moment.

    Attributes
    ----------
    path
        The file; one journal is used by one process.
    entries
        image_id: (key, SHA-256 of the resized file). The key names source pixels, parameters and method.
    """

    path: Path
    entries: dict[str, tuple[str, str]]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Read a journal, or start one; a torn or foreign line counts as absent."""
        path.parent.mkdir(parents=True, exist_ok=True)
        entries: dict[str, tuple[str, str]] = {}
        with path.open("ab+") as stream:
            stream.seek(0)
            content = stream.read()
            if content and not content.endswith(b"\n"):
                stream.write(b"\n")  # else the next line would be lost with the torn one
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                entries[str(entry["image_id"])] = (str(entry["key"]), str(entry["sha256"]))
            except (ValueError, KeyError, TypeError):
                continue
        return cls(path, entries)

    def add(self, image_id: str, key: str, sha256: str) -> None:
        """Append one line, from any thread."""
        with self._lock, self.path.open("ab") as stream:
            stream.write(_line(image_id, key, sha256))
            self.entries[image_id] = (key, sha256)

    def keep_only(self, image_ids: set[str]) -> None:
        """Forget other images and outdated lines."""
        lines = [_line(image_id, *entry) for image_id, entry in self.entries.items() if image_id in image_ids]
        with atomic_file(self.path) as temporary:
            temporary.write_bytes(b"".join(lines))


@dataclass(frozen=True)
class Tree:
    """One run over the tree: where images come from, where they go, how."""

    images: Path
    resized: Path
    staging: Path
    journal: Journal
    params: Resize
    max_pixels: int

    def make(self, row: dict[str, Any]) -> str:
        """Return "kept" where the image is whole already, else resize it into the staging folder: "made"."""
        target = resized_path(row)
        recipe = f"{row['pixels_sha256']} {self.params.size} {self.params.aspect} {METHOD}"
        key = hashlib.sha256(recipe.encode()).hexdigest()
        known = self.journal.entries.get(row["image_id"])
        if known and known[0] == key:
            for place in (self.staging / target, self.resized / target):
                if _sha256(place) == known[1]:
                    return "kept"
        (self.staging / target).unlink(missing_ok=True)
        data = encode_png(resize_rgb(self._read(row), self.params.size, self.params.aspect))
        _write(self.staging / target, data)
        self.journal.add(row["image_id"], key, hashlib.sha256(data).hexdigest())
        return "made"

    def _read(self, row: dict[str, Any]) -> Image:
        path = self.images / row["path"]
        try:
            image = read_rgb(path, self.max_pixels)
        except ImageError as error:
            raise DataError(
                f"{path} {error.detail}, though it passed ingest. Run `dvc repro` to ingest it again."
            ) from None
        if hash_pixels(image) != row["pixels_sha256"]:
            raise DataError(f"{path} has other pixels than when it was ingested. Run `dvc repro` to ingest it again.")
        return image


def resize_all(
    labels: pd.DataFrame, images: Path, resized: Path, resume: Path, params: Resize, max_pixels: int
) -> Counter[str]:
    """Bring the resized tree up to date with the labels.

    Parameters
    ----------
    labels : DataFrame of n rows
        With `image_id`, `path`, `class`, `subtype`, `pixels_sha256`.
    images, resized
        The source folder, and the tree `<class>/<subtype>/<image_id>.png`.
    resume
        Holds the journal and the files that are not yet in the tree; on the tree's file system.
    params, max_pixels
        Size and aspect, and the largest image to decode.

    Returns
    -------
    Counter
        `made`, `kept`, `removed` (files of the tree that belong to no row).

    Raises
    ------
    DataError
        A source that is missing, broken or changed since it was ingested.
    """
    tree = Tree(images, resized, resume / "resized", Journal.open(resume / "resize.jsonl"), params, max_pixels)
    columns = ["image_id", "path", "class", "subtype", "pixels_sha256"]
    rows: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in labels[columns].to_numpy()]
    counts: Counter[str] = Counter()
    cv2.setNumThreads(1)  # the images are the parallel unit
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(rows), desc="resize", delay=2) as bar:
        for start in range(0, len(rows), CHUNK):
            for outcome in pool.map(tree.make, rows[start : start + CHUNK]):
                counts[outcome] += 1
                bar.update()
    wanted = {resized_path(row) for row in rows}
    counts["removed"] = _remove_others(resized, wanted)
    for target in sorted(wanted):
        if (tree.staging / target).exists():
            (resized / target).parent.mkdir(parents=True, exist_ok=True)
            (tree.staging / target).replace(resized / target)
    shutil.rmtree(tree.staging, ignore_errors=True)
    tree.journal.keep_only({row["image_id"] for row in rows})
    return counts


def _line(image_id: str, key: str, sha256: str) -> bytes:
    return (json.dumps({"image_id": image_id, "key": key, "sha256": sha256}) + "\n").encode()


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return None  # to be made anew


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or none. Not forced to the disk: after a power cut the journal's hash finds what is torn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    try:
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
