"""Unpack a `.tar.gz` that nobody vouches for: streamed, limited, and never a byte outside the folder."""

import gzip
import os
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tqdm import tqdm

from biopsy.core.errors import SourceError

CHUNK = 1 << 20
MEMBERS = 100_000  # BreaKHis has about 9,000
SLACK = 4 * CHUNK  # what tarfile may read between two files: it keeps headers in memory
DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)
YOURSELF = "If you trust it, unpack it yourself and set data.breakhis.path to the folder."


class _Metered:
    """A stream that ends in an error where more comes out of it than expected: the brake for every kind of bomb."""

    def __init__(self, stream: gzip.GzipFile, limit: int, archive: Path) -> None:
        self.stream, self.limit, self.archive = stream, limit, archive
        self.total, self.left = 0, SLACK

    def expect(self, count: int) -> None:
        """Allow `count` bytes, and headers, before the next call."""
        self.left = count + SLACK

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes. Raises `SourceError` beyond a limit."""
        data = self.stream.read(size)
        self.total += len(data)
        self.left -= len(data)
        if self.total > self.limit:
            gigabytes = f"{self.limit / 1e9:g} GB"
            raise SourceError(
                f"{self.archive} unpacks to more than {gigabytes}. Raise data.breakhis.max_gb to allow it."
            )
        if self.left < 0:
            raise SourceError(f"{self.archive} has a header of more than {SLACK:,} bytes. {YOURSELF}")
        return data


def unpack(
    archive: Path, folder: Path, keep: Callable[[PurePosixPath], PurePosixPath | str], limit: int
) -> tuple[list[str], Counter[str]]:
    """Unpack the regular files that `keep` accepts. Memory does not grow with the archive's size.

    Parameters
    ----------
    archive
        A gzip-compressed tar file.
    folder
        An existing folder. Nothing is written outside it: links are refused, and no name may leave it.
    keep
        Maps a member's path to its path below `folder`, or to a string, the reason why it is left out.
    limit
        The most bytes that the whole archive may unpack to.

    Returns
    -------
    tuple
        The paths of the unpacked files relative to `folder`, sorted, and the number left out by reason.

    Raises
    ------
    SourceError
        The archive is damaged, incomplete, too large, or holds what a data set has no need of: absolute names, `..`,
        links, devices, a file that stands twice.
    """
    kept: list[str] = []
    left_out: Counter[str] = Counter()
    try:
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped, _bar(archive) as bar:
            stream = _Metered(unzipped, limit, archive)
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=CHUNK) as tar:
                for number, member in enumerate(tar, 1):
                    bar.update(raw.tell() - bar.n)
                    path = _checked(member, number, archive)
                    stream.expect(member.size)
                    place = None if member.isdir() else keep(path) if member.name.isprintable() else "unprintable name"
                    if isinstance(place, str):
                        left_out[place] += 1
                    elif place is not None:
                        _write(tar, member, folder / place, archive)
                        kept.append(str(place))
            stream.expect(limit)
            while stream.read(CHUNK):  # gzip compares its checksum at the very end
                pass
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise SourceError(
            f"{archive} is damaged, incomplete or no .tar.gz ({reason}). Delete it and fetch it again."
        ) from None
    return sorted(kept), left_out


def _bar(archive: Path) -> tqdm:
    return tqdm(total=archive.stat().st_size, unit="B", unit_scale=True, desc="unpack", delay=2)


def _checked(member: tarfile.TarInfo, number: int, archive: Path) -> PurePosixPath:
    """Return the member's path if it is a plain file or folder below the archive's root. Raises `SourceError`."""
    path, name = PurePosixPath(member.name), member.name
    fault = None
    if number > MEMBERS:
        fault = f"has more than {MEMBERS:,} members"
    elif member.issym() or member.islnk():
        fault = f"holds a link, {name!r} to {member.linkname!r}"
    elif not (member.isreg() or member.isdir()) or member.issparse():
        fault = f"holds a device, a pipe or a sparse file, {name!r}"
    elif path.is_absolute() or ".." in path.parts or "\\" in name:
        fault = f"holds {name!r}, a name that leaves the folder"
    elif len(os.fsencode(name)) > 1000 or any(len(os.fsencode(part)) > 255 for part in path.parts):
        fault = f"holds a name of {len(name)} characters"
    elif member.size < 0:
        fault = f"holds {name!r} of {member.size} bytes"
    if fault:
        raise SourceError(f"{archive} {fault}, which the data set has no need of. {YOURSELF}")
    return path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> None:
    """Write one regular file; its owner, mode and date are ours, not the archive's."""
    content = tar.extractfile(member)
    assert content is not None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, target.open("xb") as out:
            shutil.copyfileobj(content, out, CHUNK)
    except (FileExistsError, NotADirectoryError):
        raise SourceError(f"{archive} holds {member.name!r} twice, or as file and folder. {YOURSELF}") from None
