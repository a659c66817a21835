"""Unpack an untrusted archive: streamed, with limits, and never outside the folder."""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from tqdm import tqdm

from biopsy.core.errors import SourceError, naming

CHUNK = 1 << 20
MEMBERS = 100_000  # BreaKHis has about 9,000
SLACK = 4 * CHUNK  # bytes that may be read between two files: headers are kept in memory
XZ_MEMORY = 256 << 20  # `xz -9` needs 65 MB; a header may ask for gigabytes
BLOCK = 512  # of a tar
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError,
    OverflowError,
)  # fmt: skip
KINDS = ".tar.gz, .tar, .tar.bz2, .tar.xz or .zip"
YOURSELF = "If you trust it, unpack it yourself and set data.breakhis.path to the folder."

Keep = Callable[[PurePosixPath], PurePosixPath | str]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Xz:
    """The content of an .xz file, also of several streams, read in bounded memory."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.rest = raw, b""
        self.decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; nothing at the end. Raises `EOFError` in a truncated file."""
        while True:
            if self.decoder.eof:
                self.rest = (self.decoder.unused_data or self.raw.read(CHUNK)).lstrip(b"\0")
                if not self.rest and not (more := self.raw.read(CHUNK)):
                    return b""
                self.rest = self.rest or more
                self.decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            elif self.decoder.needs_input and not self.rest and not (more := self.raw.read(CHUNK)):
                raise EOFError("the compressed data ends too early")
            else:
                self.rest = self.rest or (more if self.decoder.needs_input else b"")
            data, self.rest = self.decoder.decompress(self.rest, size), b""
            if data:
                return data


class _Metered:
    """A stream that raises an error when more comes out of it than expected: the guard against all kinds of bombs.

    tarfile reads it as a file: it seeks forwards, and back by one byte, with which it checks a member's end.
    """

    def __init__(self, stream: _Readable, limit: int, archive: Path) -> None:
        self.stream, self.limit, self.archive = stream, limit, archive
        self.total, self.left, self.origin = 0, SLACK, 0
        self.ahead, self.last = b"", b""  # what is read again; what the last call returned

    def expect(self, count: int) -> None:
        """Allow `count` bytes, and headers, before the next call."""
        self.left = count + SLACK

    def read(self, size: int = CHUNK) -> bytes:
        """Read `size` bytes, fewer only at the end. Raises `SourceError` beyond a limit."""
        parts, need = [self.ahead[:size]], size - len(self.ahead[:size])
        self.ahead = self.ahead[size:]
        while need and (data := self.stream.read(min(need, CHUNK))):
            parts.append(data)
            need -= len(data)
            self.left -= len(data)
            self._check(len(data))
        data = b"".join(parts)
        self.total += len(data)
        self.last = data
        return data

    def tell(self) -> int:
        """Return the position since the present tar file's beginning."""
        return self.total - self.origin

    def seek(self, position: int) -> None:
        """Skip to `position`, or step one byte back."""
        position += self.origin
        if position == self.total - 1:
            self.unread(self.last[-1:])
        while self.total < position and self.read(min(position - self.total, CHUNK)):
            pass

    def unread(self, data: bytes) -> None:
        """Let the next call of `read` begin with `data`, which the last one returned."""
        self.ahead, self.total = data + self.ahead, self.total - len(data)

    def _check(self, new: int) -> None:
        if self.total + new > self.limit:
            gigabytes = f"{self.limit / 1e9:g} GB"
            raise SourceError(
                f"{self.archive} unpacks to more than {gigabytes}. Raise data.breakhis.max_gb to allow it."
            )
        if self.left < 0:
            raise SourceError(f"{self.archive} has a header of more than {SLACK:,} bytes. {YOURSELF}")


def unpack(archive: Path, folder: Path, keep: Keep, limit: int) -> tuple[list[str], Counter[str]]:
    """Unpack the regular files that `keep` accepts. Memory does not grow with the archive's size.

    Parameters
    ----------
    archive
        A .zip or a tar file, compressed by gzip, bzip2, xz or not; what it is, its first bytes tell. Several tar files
        joined into one are unpacked one after the other.
    folder
        An existing folder. Nothing is written outside it: links are rejected, and no name may leave it.
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
        with archive.open("rb") as raw, _bar(archive) as bar:
            members = _zipped(raw, limit, archive) if _head(raw, 4) in ZIPPED else _tarred(raw, limit, archive)
            for number, (name, is_folder, content) in enumerate(members, 1):
                bar.update(max(raw.tell() - bar.n, 0))
                path = _path(name, number, archive)
                place = None if is_folder else keep(path) if name.isprintable() else "unprintable name"
                if isinstance(place, str):
                    left_out[place] += 1
                elif place is not None:
                    _write(content(), name, folder / place, archive)
                    kept.append(str(place))
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise SourceError(
            f"{archive} is damaged, incomplete or no {KINDS} ({reason}). Delete it and fetch it again."
        ) from None
    return sorted(kept), left_out


Member = tuple[str, bool, Callable[[], IO[bytes]]]  # name, whether it is a folder, what opens its content
ZIPPED = (b"PK\3\4", b"PK\5\6")
OPEN: dict[bytes, Callable[[IO[bytes]], _Readable]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": _Xz,
}
OTHERS = {b"7z\xbc\xaf": ".7z", b"Rar!": ".rar", b"\x28\xb5\x2f\xfd": ".tar.zst"}


def _head(raw: IO[bytes], size: int) -> bytes:
    head = raw.read(size)
    raw.seek(0)
    return head


def _tarred(raw: IO[bytes], limit: int, archive: Path) -> Iterator[Member]:
    """Yield the members of a tar file, and of tar files that are appended to it."""
    if other := OTHERS.get(_head(raw, 4)):
        raise SourceError(f"{archive} is a {other} archive, which is not read; {KINDS} is. {YOURSELF}")
    head = _head(raw, 6)
    unzip = next((unzip for magic, unzip in OPEN.items() if head.startswith(magic)), None)
    stream = _Metered(unzip(raw) if unzip else raw, limit, archive)
    more = True
    while more:
        stream.origin = stream.total
        with tarfile.TarFile(fileobj=cast(IO[bytes], stream)) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else tarfile keeps them all
                _check_tar(member, archive)
                stream.expect(member.size)
                yield member.name, member.isdir(), partial(_open_tarred, tar, member)
            if len(stream.last) != BLOCK or stream.last.strip(b"\0"):  # tarfile takes this as the end of the archive
                raise EOFError("its end mark is missing, or a header is damaged")
        stream.expect(limit)
        more = False
        while block := stream.read(BLOCK):  # to the very end, where gzip compares its checksum
            if block.strip(b"\0"):
                stream.unread(block)
                more = True
                break
        stream.expect(0)


def _zipped(raw: IO[bytes], limit: int, archive: Path) -> Iterator[Member]:
    """Yield the members of a .zip file."""
    end = zipfile._EndRecData(raw)  # type: ignore[attr-defined]  # before zipfile reads the whole directory into memory
    if end and (end[4] > MEMBERS or end[5] > 1000 * MEMBERS):
        _reject(f"has more than {MEMBERS:,} members", archive)
    total = 0
    with zipfile.ZipFile(raw) as file:
        if min((info.header_offset for info in file.infolist()), default=0) > 0:
            raise SourceError(f"{archive} is several .zip files joined into one, of which only the last can be read.")
        for info in file.infolist():
            name, mode = info.filename, info.external_attr >> 16
            fault = None
            if stat.S_ISLNK(mode):
                fault = f"holds a link, {name!r}"
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                fault = f"holds a device or a pipe, {name!r}"
            _reject(fault, archive)
            total += info.file_size
            if total > limit:  # zipfile reads no more of a member than this says
                raise SourceError(
                    f"{archive} unpacks to more than {limit / 1e9:g} GB. Raise data.breakhis.max_gb to allow it."
                )
            yield name, info.is_dir(), partial(_open_zipped, file, info, archive)


def _open_tarred(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None, "a regular file"
    return content


def _open_zipped(file: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> IO[bytes]:
    try:
        return file.open(info)
    except (RuntimeError, NotImplementedError) as error:  # encrypted; packed by a method that Python does not know
        raise SourceError(f"{archive} cannot be unpacked here ({error}). {YOURSELF}") from None


def _bar(archive: Path) -> tqdm:
    return tqdm(total=archive.stat().st_size, unit="B", unit_scale=True, desc="unpack", delay=2)


def _reject(fault: str | None, archive: Path) -> None:
    """Raise `SourceError` where there is a fault: something that no copy of the data set has."""
    if fault:
        raise SourceError(f"{archive} {fault}, which the data set has no need of. {YOURSELF}")


def _check_tar(member: tarfile.TarInfo, archive: Path) -> None:
    """Make sure that a member is a plain file or a folder. Raises `SourceError`."""
    name, fault = member.name, None
    if member.issym() or member.islnk():
        fault = f"holds a link, {name!r} to {member.linkname!r}"
    elif not (member.isreg() or member.isdir()) or member.issparse():
        fault = f"holds a device, a pipe or a sparse file, {name!r}"
    elif member.size < 0:
        fault = f"holds {name!r} of {member.size} bytes"
    _reject(fault, archive)


def _path(name: str, number: int, archive: Path) -> PurePosixPath:
    """Return a member's path if it lies below the archive's root. Raises `SourceError`."""
    path, fault = PurePosixPath(name), None
    if number > MEMBERS:
        fault = f"has more than {MEMBERS:,} members"
    elif path.is_absolute() or ".." in path.parts or "\\" in name:
        fault = f"holds {name!r}, a name that leaves the folder"
    elif len(os.fsencode(name)) > 1000 or any(len(os.fsencode(part)) > 255 for part in path.parts):
        fault = f"holds a name of {len(name)} characters"
    _reject(fault, archive)
    return path


def _write(content: IO[bytes], name: str, target: Path, archive: Path) -> None:
    """Write one regular file; its owner, mode and date are ours, not the archive's."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with naming(target), content, target.open("xb") as out:
            shutil.copyfileobj(content, out, CHUNK)
    except (FileExistsError, NotADirectoryError):
        raise SourceError(f"{archive} holds {name!r} twice, or as file and folder. {YOURSELF}") from None
