"""Object stores (`s3://`, `gs://`), read through fsspec as DVC's remotes are: what lies at an address, and errors."""

import errno
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopsy.core.errors import BiopsyError, MachineError, SourceError, reason_of

PACKAGES = {"s3": "s3fs (`pip install -e '.[s3]'`)", "gs": "gcsfs (`pip install -e '.[gs]'`)"}
CREDENTIALS = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
TAGS = ("md5Hash", "ETag", "etag", "LastModified", "updated", "created")  # what changes with an object's content
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # this machine's disk
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")


@dataclass(frozen=True)
class Found:
    """An object below an address: its name relative to that, its size in bytes, and a tag of its content."""

    name: str
    size: int
    tag: str


def is_address(path: str | Path | None) -> bool:
    """Say whether a path is an object store's."""
    return bool(re.match(r"[a-z][a-z0-9]+://", str(path)))


def open_store(address: str, key: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there. Errors call the address by its parameter, `key`.

    Raises
    ------
    SourceError
        An unknown kind of store.
    MachineError
        Its package is missing.
    """
    import fsspec

    kind, _, path = address.partition("://")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs tracebacks of what `in_words` puts into a sentence
    try:
        return fsspec.filesystem(kind), path.rstrip("/")
    except ImportError:
        raise MachineError(
            f"{key}: {address} needs the package {PACKAGES.get(kind, kind)}, which {sys.executable} does not have."
        ) from None
    except ValueError:
        raise SourceError(
            f"{key}: {address} begins with {kind}://, which is not a store. Known are s3:// and gs://."
        ) from None


@contextmanager
def in_words(address: str, key: str) -> Iterator[None]:
    """Put what a store's library raises into a sentence. Raises `SourceError`."""
    kind = address.partition("://")[0]
    try:
        yield
    except BiopsyError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{key}: {address} does not exist: there is no such bucket, or nothing below it.") from None
    except Exception as error:  # each library's own
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = reason_of(error)
        if type(error).__name__ in NO_CREDENTIALS:
            raise SourceError(f"{key}: no credentials for {address} ({reason}). Set {CREDENTIALS.get(kind)}.") from None
        if _refused(error):
            raise SourceError(
                f"{key}: {address} may not be read with your credentials ({reason}). Set {CREDENTIALS.get(kind)}."
            ) from None
        raise SourceError(
            f"{key}: {address} cannot be reached ({reason}). Run `dvc repro` again to go on; what was fetched is kept."
        ) from None


def _refused(error: Exception) -> bool:
    """Say whether credentials do not suffice; gcsfs raises another class for each status."""
    gcsfs = getattr(error, "code", None) == 401 or str(error).startswith("Forbidden:")
    return isinstance(error, PermissionError) or gcsfs


def list_objects(address: str, key: str) -> list[Found]:
    """List the objects below an address, or the one that it names (`name` is then empty), sorted.

    Raises
    ------
    SourceError
        It does not exist, or cannot be read.
    """
    store, root = open_store(address, key)
    with in_words(address, key):
        store.invalidate_cache()
        listed = store.find(root, detail=True)
        if not listed:
            raise FileNotFoundError
        names = {path: str(path).removeprefix("/").removeprefix(root.removeprefix("/")).strip("/") for path in listed}
        return sorted(
            (Found(names[p], int(about["size"]), _tag(about)) for p, about in listed.items()), key=lambda f: f.name
        )


def _tag(about: dict[str, Any]) -> str:
    return next((str(about[name]).strip('"') for name in TAGS if about.get(name)), "")
