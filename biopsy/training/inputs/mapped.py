"""Arrays in files, mapped into memory, on a disk that has the room for them."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

# Errors of file systems that cannot set space aside; the file then stays sparse.
CANNOT = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def create_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """Make a `.npy` file and map it for writing; its space is set aside first.

    Without this the file would be sparse, and on a full disk the process that writes into it would be killed (SIGBUS)
    without a message.

    Parameters
    ----------
    path
        The file, overwritten where there is one.
    dtype, shape
        Of the array.

    Returns
    -------
    numpy.memmap
        Zeros.

    Raises
    ------
    OSError
        The disk is full; the file is gone again.
    """
    try:
        array: np.memmap = np.lib.format.open_memmap(path, "w+", dtype, shape)
        _reserve(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def open_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Map such a file for reading; None where it is missing, broken or holds something else: to be made again."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def _reserve(path: Path) -> None:
    """Give a sparse file its space, where the platform (macOS has no such call) and the file system can."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in CANNOT:
                raise
