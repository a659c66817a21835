"""Copy the images of a user's folder, and count everything that is left out.

The files are copied and never linked. DVC turns the outputs of a stage into cache entries. Where `cache.type` begins
with hardlink, a linked file of the user's would become such an entry: read-only, and a change to it would damage the
cache. Where the file system can share blocks (btrfs, XFS), a copy takes no space.
"""

import fcntl
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from biopsy.core.errors import SourceError, naming
from biopsy.core.folders import is_image, walk

FICLONE = 0x40049409  # linux/fs.h: share the blocks of a whole file
CHUNK = 1 << 20


def find_images(folder: Path) -> tuple[list[str], Counter[str]]:
    """List the image files below a folder, links followed.

    Returns
    -------
    tuple
        The files' paths relative to `folder` with `/`, sorted, and the number of other entries by kind.

    Raises
    ------
    DataError
        A folder that cannot be read.
    """
    found: list[str] = []
    left_out: Counter[str] = Counter()
    for where, folders, names in walk(folder):
        left_out["folder named like an image"] += sum(map(is_image, folders))
        for name in names:
            path = where / name
            reason = _reason_against(path)
            if reason:
                left_out[reason] += 1
            else:
                found.append(path.relative_to(folder).as_posix())
    return sorted(found), +left_out


def copy_images(folder: Path, paths: Sequence[str], target: Path) -> None:
    """Copy the files at `paths`, relative to `folder`, to the same paths below `target`.

    Raises
    ------
    SourceError
        A file that cannot be read, or has vanished.
    """
    for path in tqdm(paths, desc="copy", unit="file", delay=2):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        copy_file(folder / path, target / path)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file's bytes to a new file, by sharing its blocks where the file system can."""
    try:
        read = source.open("rb")
    except PermissionError:
        raise SourceError(f"no permission to read {source}. Allow it (chmod u+r), or take the file away.") from None
    except FileNotFoundError:
        raise SourceError(f"{source} vanished while it was being read. Run `dvc repro` again.") from None
    with naming(target), read, target.open("xb") as write:
        try:
            fcntl.ioctl(write, FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write, CHUNK)


def _reason_against(path: Path) -> str | None:
    """Say why an entry is not one of the images, or None."""
    if not is_image(path.name):
        return "not an image"
    if not path.is_file():
        return "broken link or special file"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "name not in UTF-8"
    return None
