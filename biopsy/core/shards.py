"""Where the images of a tree lie: each in its own file or, above a limit, in tar archives that WebDataset can read.

DVC, file systems and object stores take time for each file. An archive is called `00003-of-00128.tar`. An image's id
and the number of archives decide which one holds it; the number is a power of two, so that it seldom changes.
"""

import errno
import os
import tarfile
import zlib
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from biopsy.core.layout import resized_path

SINGLE_FILES = 100_000  # images of a tree that may be files of their own
LEAST = 1000  # images in an archive, and at most twice as many


def shards_for(images: int) -> int:
    """Return the number of archives for so many images; 0: each image is a file."""
    return 0 if images <= SINGLE_FILES else 1 << max(0, (images // LEAST).bit_length() - 1)


def shards_in(tree: Path) -> int:
    """Return the number of archives of a tree; 0: each image is a file."""
    found = next(tree.glob(f"{5 * '[0-9]'}-of-{5 * '[0-9]'}.tar"), None)
    return int(found.stem[-5:]) if found else 0


def place_of(image_id: str, shards: int) -> Path:
    """Return the place of an image in a tree with this number of archives: `<id>.png`, or `<archive>/<id>.png`."""
    if not shards:
        return resized_path(image_id)
    return Path(f"{zlib.crc32(image_id.encode()) % shards:05}-of-{shards:05}.tar") / resized_path(image_id)


def files_of(tree: Path, image_ids: Iterable[str]) -> list[Path]:
    """Return where the images lie, for `read_file`."""
    shards = shards_in(tree)
    return [tree / place_of(image_id, shards) for image_id in image_ids]


def images_in(tree: Path) -> list[Path]:
    """List all images of a tree, for `read_file`, sorted by their files or by archive."""
    archived = (archive / name for archive in sorted(tree.glob("*.tar")) for name in names_in(archive))
    return sorted(tree.rglob("*.png")) or list(archived)


def read_file(path: Path) -> bytes:
    """Read a file, or a member of an archive. Raises `OSError`; for a broken archive, `FileNotFoundError`."""
    if (archive := archive_of(path)) is None:
        return path.read_bytes()
    start, size = _member(archive, path)
    with archive.open("rb") as stream:
        stream.seek(start)
        return stream.read(size)


def is_there(path: Path) -> bool:
    """Say whether `read_file` finds it."""
    try:
        return path.is_file() or ((archive := archive_of(path)) is not None and bool(_member(archive, path)))
    except OSError:
        return False


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into."""
    return next((above for above in path.parents if above.suffix == ".tar" and above.is_file()), None)


def write_shard(path: Path, files: Iterable[tuple[Path, bytes]]) -> None:
    """Write an archive of these files whole or not at all; equal files give equal bytes."""
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(temporary, "w") as archive:
            for name, data in files:
                info = tarfile.TarInfo(name.as_posix())
                info.size = len(data)
                archive.addfile(info, BytesIO(data))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def names_in(archive: Path) -> list[Path]:
    """List what an archive holds, in its order; nothing where it is missing or broken."""
    try:
        return [Path(name) for name in _members(archive)]
    except OSError:
        return []


def _member(archive: Path, path: Path) -> tuple[int, int]:
    try:
        return _members(archive)[path.relative_to(archive).as_posix()]
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


def _members(archive: Path) -> dict[str, tuple[int, int]]:
    """Return where each member begins and how long it is."""
    found = archive.stat()
    return _read_members(archive, found.st_mtime_ns, found.st_size)


@lru_cache(None)
def _read_members(archive: Path, mtime_ns: int, size: int) -> dict[str, tuple[int, int]]:
    try:
        with tarfile.open(archive, "r:") as opened:
            members = {member.name: (member.offset_data, member.size) for member in opened if member.isfile()}
    except tarfile.TarError as error:
        raise FileNotFoundError(errno.ENOENT, f"no whole archive ({error})", str(archive)) from None
    return {name: (start, length) for name, (start, length) in members.items() if start + length <= size}
