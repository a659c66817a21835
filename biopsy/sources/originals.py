"""Which files of a BreaKHis copy have the original bytes, by the SHA-256 of all 7,909 files."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from biopsy.core.files import sha256


@dataclass(frozen=True)
class Originals:
    """The outcome of a comparison; all lists are sorted.

    Attributes
    ----------
    original
        Number of files with the original bytes.
    altered
        Paths of files whose name is one of the 7,909 and whose bytes are not.
    unknown
        Paths of files whose name is none of them.
    absent
        Number of the 7,909 that are not here.
    """

    original: int
    altered: list[str]
    unknown: list[str]
    absent: int

    @property
    def total(self) -> int:
        """The number of files compared."""
        return self.original + len(self.altered) + len(self.unknown)

    def __str__(self) -> str:
        """Say it in words: `396 of 421 files are as published`."""
        return f"{self.original:,} of {self.total:,} files are as published"


@cache
def known() -> dict[str, str]:
    """Return the SHA-256 of every file of BreaKHis v1 by image_id (file stem): 7,909 entries, from a public copy."""
    packed = package_files("biopsy.sources").joinpath("data/originals.csv.gz").read_bytes()
    return {row["image_id"]: row["sha256"] for row in csv.DictReader(gzip.decompress(packed).decode().splitlines())}


def compare(folder: Path, paths: Sequence[str]) -> Originals:
    """Hash the files of a BreaKHis copy and compare them with the known list.

    Parameters
    ----------
    folder
        The folder that `paths` are relative to.
    paths
        The files to compare, with `/`.

    Returns
    -------
    Originals
        How many are original, and which are not.
    """
    listed = sorted(path for path in paths if _image_id(path) in known())
    unknown = sorted(path for path in paths if _image_id(path) not in known())
    with ThreadPool() as pool:  # hashing and reading release the GIL
        hashing = pool.imap(sha256, (folder / path for path in listed), 8)
        hashes = list(tqdm(hashing, total=len(listed), desc="compare", unit="file", delay=2))
    altered = [path for path, found in zip(listed, hashes, strict=True) if found != known()[_image_id(path)]]
    absent = len(known().keys() - {_image_id(path) for path in listed})
    return Originals(len(listed) - len(altered), altered, unknown, absent)


def _image_id(path: str) -> str:
    return PurePosixPath(path).stem
