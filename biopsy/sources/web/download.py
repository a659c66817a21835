"""Download one large file over HTTP: streamed, resumed where it broke off, and checked before it is trusted.

`<name>.part` holds the bytes so far, and `<name>.part.json` says of which file they are; both survive a kill. urllib is
used, not requests, which would unpack a `.tar.gz` that Apache labels `Content-Encoding: x-gzip` and lose the count.
"""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from biopsy.core import files
from biopsy.core.errors import DataError, SourceError, naming

CHUNK = 1 << 20
TRIES = 8
TIMEOUT = 60  # seconds without a byte
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers after which another attempt may succeed


class _BrokenOffError(Exception):
    """An attempt that failed and may be repeated; its sentence says why."""


@dataclass(frozen=True)
class _Note:
    """Which file the bytes are of: ETag and date from the server, and the size in bytes if it gave one."""

    url: str
    etag: str | None
    modified: str | None
    size: int | None

    def if_range(self) -> str | None:
        """Return the validator for If-Range, for which a weak ETag is not allowed (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def contradicts(self, other: "_Note") -> bool:
        """Say whether both know an ETag, a date or a size, and not the same one."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.size, other.size))
        return any(a != b for a, b in pairs if a is not None and b is not None)


def download(url: str, target: Path, *, limit: int, hint: str, sha256: str | None = None, pause: float = 1.0) -> None:
    """Bring `url` to `target`, going on where an earlier call stopped; a whole file that still fits is kept.

    Parameters
    ----------
    url
        http or https.
    target
        Where the file belongs. `<target>.part` beside it holds an unfinished download.
    limit
        The most bytes that are accepted.
    hint
        The sentence that tells how to do without the download; it ends every error.
    sha256
        The file's SHA-256, where it is known.
    pause
        Seconds before the second attempt, doubled for each further one, 30 at most.

    Raises
    ------
    SourceError
        The server rejects the request, the connection fails `TRIES` times, or the bytes are not the expected ones.
    """
    if _kept(url, target, sha256):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _persist(url, part, limit, hint, pause)
    if sha256 and (found := files.sha256(part)) != sha256:
        _forget(part)
        raise SourceError(f"the file at {url} has the SHA-256 {found}, not the expected {sha256}. {hint}")
    _note_path(part).replace(_note_path(target))
    part.replace(target)
    print(f"downloaded {target} ({_size(target.stat().st_size)})", flush=True)


def hub_address() -> str:
    """Return the address of the hub of models; `HF_ENDPOINT` may name another, as for Hugging Face's own tools."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _kept(url: str, target: Path, sha256: str | None) -> bool:
    """Say whether `target` is already there and fits: from this URL, of the size it had, of the wanted hash."""
    if not target.is_file():
        return False
    note, size = _read_note(target), target.stat().st_size
    if note is not None and (note.url != url or note.size not in (None, size)):
        print(f"{target} does not fit {url} any more: downloading it again", flush=True)
        return False
    if sha256 and files.sha256(target) != sha256:
        print(f"{target} has another SHA-256 than the expected one: downloading it again", flush=True)
        return False
    origin = "downloaded earlier" if note else "put there by hand"
    print(f"using {target} ({_size(size)}, {origin})", flush=True)
    return True


def _persist(url: str, part: Path, limit: int, hint: str, pause: float) -> None:
    """Attempt the download up to `TRIES` times, each attempt going on where the last one stopped."""
    for attempt in range(1, TRIES + 1):
        try:
            _attempt(url, part, limit, hint)
            return
        except _BrokenOffError as broken:
            if attempt == TRIES:
                have = part.stat().st_size if part.exists() else 0
                raise SourceError(
                    f"the download of {url} failed {TRIES} times, at last because {broken}. "
                    f"{_size(have)} are kept: run `dvc repro` again to continue from there. {hint}"
                ) from None
            wait = min(pause * 2 ** (attempt - 1), 30)
            print(f"the download stopped because {broken}; attempt {attempt + 1} in {wait:g} s", flush=True)
            time.sleep(wait)


def _attempt(url: str, part: Path, limit: int, hint: str) -> None:
    """Fetch the rest of `part`. Raises `_BrokenOffError` if another attempt may help."""
    note = _read_note(part)
    if note is None or note.url != url or not part.exists():
        _forget(part)
        note = None
    have = part.stat().st_size if note else 0
    if note and note.size == have:
        return
    with _open(url, have, note, part, hint) as response:
        start, fresh = _agree(response, url, have, note, part)
        if (fresh.size or 0) > limit:
            raise SourceError(f"{url} is {_size(fresh.size or 0)} large, more than the {_size(limit)} allowed. {hint}")
        if start:
            print(f"going on at {_size(start)} of {_size(fresh.size or 0)}", flush=True)
        files.write_json(_note_path(part), asdict(fresh))
        with naming(part), part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            end = _pour(response, stream, fresh.size, limit)
    if end > (limit if fresh.size is None else fresh.size):
        _forget(part)
        if fresh.size is None:
            raise SourceError(f"{url} sends more than the {_size(limit)} allowed. {hint}")
        raise _BrokenOffError(f"the server sent more than the {fresh.size} bytes it had announced")
    if fresh.size is not None and end < fresh.size:
        raise _BrokenOffError(f"the connection ended at byte {end} of {fresh.size}")


def _open(url: str, have: int, note: _Note | None, part: Path, hint: str) -> http.client.HTTPResponse:
    """Send the request, only for the rest of the file if `have` bytes are here."""
    headers = {"User-Agent": "biopsy", "Accept-Encoding": "identity"}
    if have and note:
        headers["Range"] = f"bytes={have}-"
        if validator := note.if_range():
            headers["If-Range"] = validator
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - params allow http and https alone
        if (token := os.environ.get("HF_TOKEN")) and url.startswith(f"{hub_address()}/"):
            request.add_unredirected_header("Authorization", f"Bearer {token}")  # not told to where the hub sends us
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies behind the bytes that are here: they are of another file
            _forget(part)
            raise _BrokenOffError("the server's file is shorter than the part kept here, which is given up") from None
        if error.code in PASSING:
            raise _BrokenOffError(f"the server answered {error.code} {error.reason}") from None
        raise SourceError(f"{url}: the server answered {error.code} {error.reason}. {hint}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"there was no connection ({_reason(error)})") from None
    except ValueError as error:
        raise SourceError(f"{url} is not a usable address ({error}). Fix data.breakhis.url. {hint}") from None


def _agree(
    response: http.client.HTTPResponse, url: str, have: int, note: _Note | None, part: Path
) -> tuple[int, _Note]:
    """Return the byte at which the answer begins, and its file; remove the part if the two do not fit."""
    headers = response.headers
    if response.status == 200:  # the whole file: no range asked for, or ranges not served, or the file has changed
        return 0, _note(url, headers, headers["Content-Length"])
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers["Content-Range"] or "")
    if response.status != 206 or not found or int(found[1]) != have or int(found[2]) + 1 != int(found[3]):
        _forget(part)
        answer = f"{response.status}, Content-Range {headers['Content-Range']!r}"
        raise _BrokenOffError(f"the server answered with {answer} when asked for bytes {have}-; starting over")
    fresh = _note(url, headers, found[3])
    if note is None or note.contradicts(fresh):
        _forget(part)
        raise _BrokenOffError("the file has changed on the server since the first part was fetched; starting over")
    return have, fresh


def _pour(response: http.client.HTTPResponse, stream: BinaryIO, size: int | None, limit: int) -> int:
    """Write the answer's body to `stream`; return the position reached, at most one chunk beyond `size` or `limit`."""
    most = limit if size is None else size
    position = stream.tell()
    with tqdm(total=size, initial=position, unit="B", unit_scale=True, desc="download", delay=2) as bar:
        while position <= most:
            try:
                chunk = response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenOffError(f"the connection broke at byte {position} ({_reason(error)})") from None
            if not chunk:
                break
            stream.write(chunk)
            position += len(chunk)
            bar.update(len(chunk))
    return position


def _note(url: str, headers: Message, size: str | None) -> _Note:
    return _Note(url, headers["ETag"], headers["Last-Modified"], int(size) if size and size.isdecimal() else None)


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_note(path: Path) -> _Note | None:
    """Return what is known of `path`, or None where its note is missing or not ours."""
    try:
        return _Note(**files.read_json(_note_path(path)))
    except (DataError, TypeError):
        return None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _size(count: int) -> str:
    return tqdm.format_sizeof(count, "B")
