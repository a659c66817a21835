"""A model of another revision or repository, by name: `<repository>@<revision>:<path>`, fetched with DVC and kept."""

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from biopsy.core.errors import MachineError, SourceError, reason_of
from biopsy.core.extras import extra
from biopsy.core.layout import cache, exported_in


def find_model(name: str | Path) -> Path:
    """Return the path that a person names, or where what `repository@revision:path` names was fetched to.

    A folder of an exported model, such as exports/binary-case, stands for the file in it. Raises `SourceError` and
    `MachineError` as `fetch_revision`.
    """
    named = None if Path(name).exists() else parse_revision(str(name))
    path = fetch_revision(*named) if named else Path(name)
    return exported_in(path) or path


def parse_revision(text: str) -> tuple[str, str, str] | None:
    """Split `repository@revision:path`; None where the text is no such name.

    The repository is a folder or an address of git; the revision a commit, branch or tag, as `binary-case@v1.0.0` or
    `origin/main`.
    """
    rest, _, path = text.rpartition(":")
    host = re.match(r"\w+://[^/]*|[^/@]+@[^/@:]+:|.", rest)  # an @ in it is of a user
    ends = [found.start() for found in re.finditer("@", rest) if host and found.start() >= host.end()]
    folders = [end for end in ends if Path(rest[:end]).is_dir()]  # whose names may have an @
    at = folders[-1] if folders else next((end for end in ends if end > rest.rfind("/")), ends[0] if ends else 0)
    return (rest[:at], rest[at + 1 :], path) if at > 0 and path and at + 1 < len(rest) else None


def fetch_revision(repository: str, revision: str, path: str) -> Path:
    """Fetch a model's folder or .onnx file from a DVC repository, or find what an earlier call has fetched.

    Parameters
    ----------
    repository, revision, path
        As `parse_revision` gives them.

    Returns
    -------
    Path
        Below `$BIOPSY_CACHE/models`, one folder a commit.

    Raises
    ------
    SourceError
        No such repository, revision or path, or a remote that does not give the files.
    MachineError
        DVC is not installed, or the folder cannot be written.
    """
    with extra("pipeline"):
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexDirError
    try:
        found = DVCFileSystem(repository, rev=revision)
        asked = f"{repository}\n{found.repo.get_rev()}\n{path}"
        kept = cache("models") / hashlib.sha256(asked.encode()).hexdigest()[:16] / Path(path).name
        if not kept.exists():
            part = _new_folder(kept.parent.parent)
            try:
                found.get(path, str(part / kept.name), recursive=True)
                kept.parent.mkdir(exist_ok=True)
                (part / kept.name).rename(kept)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except (FileNotFoundError, DataIndexDirError):
        raise SourceError(f"{repository} has no {path} at {revision}, or its remote lacks the files.") from None
    except (DvcException, OSError) as error:
        raise SourceError(f"{repository}@{revision}:{path} cannot be fetched: {_reason(error)}.") from None
    return kept


def _reason(error: BaseException) -> str:
    """Return the reason below DVC's, which says no more than 'SCM error' of a repository that is not there."""
    while error.__cause__:
        error = error.__cause__
    return reason_of(error)


def _new_folder(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=parent))
    except OSError as error:
        raise MachineError(
            f"{parent} cannot be written ({reason_of(error)}). Set BIOPSY_CACHE to a folder that can."
        ) from None
