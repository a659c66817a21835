"""Fetch objects of a store into a folder: several at a time, each whole or not at all, and only those not yet there."""

import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256 as hash_of
from itertools import chain
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from biopsy.core.errors import MachineError, SourceError, naming
from biopsy.core.files import sha256
from biopsy.core.folders import is_image
from biopsy.core.journal import Entry, Journal
from biopsy.core.stores import Found, in_words, list_objects, open_store

AT_ONCE, QUEUED = 16, 1000  # objects


def find_objects(address: str, key: str) -> tuple[list[Found], Counter[str]]:
    """List the images below an address, and count the other objects by kind. Raises `SourceError`."""
    left_out: Counter[str] = Counter()
    images = []
    for found in list_objects(address, key):
        if not is_image(found.name):
            left_out["not an image"] += 1
        elif ".." in PurePosixPath(found.name).parts or "//" in found.name or not found.name.isprintable():
            left_out["name that is no path"] += 1
        else:
            images.append(found)
    return images, left_out


def fetch_file(address: str, key: str, downloads: Path) -> Path:
    """Fetch one object; return where it lies. Raises `SourceError`."""
    found = list_objects(address, key)
    if [each.name for each in found] != [""]:
        raise SourceError(f"{key}: {address} is a folder, not a CSV file.")
    return fetch_objects(address, found, key, downloads)


def fetch_objects(address: str, objects: Sequence[Found], key: str, downloads: Path) -> Path:
    """Fetch objects below an address, as `list_objects` gives them.

    Parameters
    ----------
    address, objects, key
        Where they lie, which ones, and the parameter that names the place.
    downloads
        A folder below it keeps the objects of this address; a later call fetches only new and changed ones.

    Returns
    -------
    Path
        Of the folder, or of the one file.

    Raises
    ------
    SourceError
        The store cannot be read, or an object has another size than the store says.
    MachineError
        The disk is too full.
    """
    store, root = open_store(address, key)
    folder = downloads / "objects" / hash_of(address.encode()).hexdigest()[:16]
    name = PurePosixPath(root).name
    journal = Journal.open(folder / "objects.jsonl")

    def place(found: Found) -> Path:
        return folder / "files" / (found.name or name)

    def kept(found: Found) -> bool:
        known, file = journal.entries.get(found.name), place(found)
        return known is not None and known.key == found.tag and file.is_file() and sha256(file) == known.sha256

    wanted = [found for found in objects if not kept(found)]
    total = sum(found.size for found in wanted)
    if 2 * total > (free := shutil.disk_usage(downloads).free):  # they are copied to data/raw
        raise MachineError(
            f"{key}: {address} has {total / 1e9:.1f} GB to fetch and to copy, and {free / 1e9:.1f} GB of the disk are "
            "free. Free some space, then run `dvc repro` again."
        )

    def fetch(found: Found) -> None:
        target = place(found)
        part = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        below = f"/{found.name}" if found.name else ""
        with in_words(f"{address}{below}", key), naming(part):
            store.get_file(f"{root}{below}", str(part))
        if (size := part.stat().st_size) != found.size:
            raise SourceError(
                f"{key}: {found.name or address} arrived with {size} of {found.size} bytes. Run `dvc repro` again."
            )
        digest = sha256(part)
        part.replace(target)
        journal.add(found.name, Entry(found.tag, digest))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = (pool.map(fetch, wanted[start : start + QUEUED]) for start in range(0, len(wanted), QUEUED))
        try:
            for _ in tqdm(chain.from_iterable(done), f"fetch {key}", len(wanted), unit="file", delay=2):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return folder / "files" / (name if [found.name for found in objects] == [""] else "")
