"""The resized tree as one array, decoded once: trainings of other folds, seeds, tasks and processes map the same file.

A file holds the pixels of n images and then n checksums. Its name is a hash of all that they depend on, the bytes of
the PNG files, so it never has to be updated; one that is torn or damaged is made again.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from biopsy.core.errors import BiopsyError, MachineError, reason_of, warn
from biopsy.core.layout import cache
from biopsy.core.locks import acquire
from biopsy.core.shards import read_file
from biopsy.tables.split.parts import read_images
from biopsy.training.inputs.mapped import create_array, open_array
from biopsy.training.memory import available_bytes

NAMED = re.compile("[0-9a-f]{64}")  # without `.npy`, by `_name`
SUM = 4  # bytes of a checksum, CRC-32
PATIENCE = 24 * 3600.0  # seconds: another training decodes for as long as its images take


def decode_once(files: list[Path], size: int, views: int, keep_mb: int, folder: Path | None = None) -> np.ndarray:
    """Map the pixels of images of the resized tree; decode them where no earlier training on this machine has.

    Parameters
    ----------
    files, size, views
        As `read_images` takes them.
    keep_mb
        When a file is added, those longest unused go until the folder holds at most so many MB, or this file alone.
    folder
        Where the files lie; None: `$BIOPSY_CACHE/pixels`.

    Returns
    -------
    numpy.ndarray
        (n, views, size, size, 3) uint8, RGB, read-only; in memory, with a warning, where no file can be written.

    Raises
    ------
    DataError
        As `read_images`.
    MachineError
        No file can be written, and the images do not fit into memory.
    """
    shape = (len(files), views, size, size, 3)
    try:
        folder = cache("pixels") if folder is None else folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{_name(files, shape)}.npy"
        with _alone(folder):
            found = _map(path, shape)
            if found is None:
                _remove_oldest(folder, keep_mb * 1_000_000 - _bytes(shape))
                _write(path, files, shape)
                found = _map(path, shape)
            else:
                path.touch()  # used now
        if found is None:
            raise OSError(None, "what was written reads back otherwise", str(path))
    except (OSError, MachineError) as error:
        return _in_memory(files, shape, error)
    return found


def _in_memory(files: list[Path], shape: tuple[int, ...], error: OSError | BiopsyError) -> np.ndarray:
    why = ((isinstance(error, OSError) and error.strerror) or reason_of(error)).rstrip(".")
    needed = f"the decoded images, {_bytes(shape) / 1e6:,.0f} MB,"
    way_out = "set BIOPSY_CACHE to a folder to write in, on a disk with room."
    if _bytes(shape) > available_bytes() // 2:
        raise MachineError(
            f"{needed} cannot be written ({why}), and do not fit into memory. To write them, {way_out}"
        ) from None
    warn(f"{needed} stay in memory ({why}), and the next training decodes again. To keep them, {way_out}")
    images = read_images(files, shape[2], shape[1]).reshape(shape)
    images.flags.writeable = False
    return images


def _name(files: list[Path], shape: tuple[int, ...]) -> str:
    """Hash the files' bytes and the shape."""

    def digest(path: Path) -> bytes:
        try:
            return hashlib.sha256(read_file(path)).digest()
        except OSError:
            return b""  # `read_images` says what is wrong with it

    with ThreadPool() as pool:
        return hashlib.sha256(b"".join((str(shape).encode(), *pool.imap(digest, files, 8)))).hexdigest()


def _bytes(shape: tuple[int, ...]) -> int:
    """Return the size of a file's array: pixels and checksums."""
    return int(np.prod(shape, dtype=np.int64)) + shape[0] * SUM


def _divide(array: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and the checksums of a file's array, as views of it."""
    return array[: -shape[0] * SUM].reshape(shape), array[-shape[0] * SUM :].view(np.uint32)


def _sums(pixels: np.ndarray) -> np.ndarray:
    with ThreadPool() as pool:
        return np.fromiter(pool.imap(zlib.crc32, pixels, 8), np.uint32, len(pixels))


def _write(path: Path, files: list[Path], shape: tuple[int, ...]) -> None:
    """Write a whole file or none. Not forced to the disk: after a power cut the checksums find what is torn."""
    part = path.with_name("part.npy")  # one name, for one process at a time writes
    try:
        pixels, sums = _divide(create_array(part, np.uint8, (_bytes(shape),)), shape)
        read_images(files, shape[2], shape[1], pixels.reshape(-1, *shape[2:]))
        sums[:] = _sums(pixels)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _map(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Map the pixels of a file; None where it is missing, or not what was written."""
    array = open_array(path, np.uint8, (_bytes(shape),))
    if array is None:
        return None
    pixels, sums = _divide(array, shape)
    return pixels if np.array_equal(_sums(pixels), sums) else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: a second training that asks for the same images waits for them instead of decoding."""
    with (folder / "lock").open("a") as stream:
        if not acquire(stream.fileno(), 1):
            print("train: waiting for another training, which decodes its images")
            acquire(stream.fileno(), PATIENCE)
        yield


def _remove_oldest(folder: Path, most: int) -> None:
    """Remove files, the longest unused first, until they have at most so many bytes; what is mapped stays mapped."""
    ours = (path for path in folder.glob("*.npy") if NAMED.fullmatch(path.stem))  # the folder may be a user's own
    files = sorted(ours, key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total <= most:
            return
        total -= path.stat().st_size
        path.unlink()
