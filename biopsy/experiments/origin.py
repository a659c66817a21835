"""Where another machine gets this project from, and where it sends its results: a git repository and a DVC remote."""

import re
from dataclasses import dataclass
from pathlib import Path

from biopsy.core.errors import DataError
from biopsy.experiments.shell import output, output_or_none


@dataclass(frozen=True)
class Origin:
    """What a clone of elsewhere needs to know.

    Attributes
    ----------
    url
        Of the git remote `origin`; a folder by its whole path.
    commit
        Which revision it runs; `origin` has it.
    remote, storage
        The name of the default DVC remote and its address, a folder by its whole path.
    folder
        Of the project in the repository, `.` where they are one.
    cache
        The folder of this clone's DVC cache.
    author, email
        Who signs the commits of experiments.
    """

    url: str
    commit: str
    remote: str
    storage: str
    folder: str = "."
    cache: str = ""
    author: str = "biopsy"
    email: str = "biopsy@localhost"

    @property
    def scheme(self) -> str:
        """`s3`, `ssh`, ... of the DVC remote; empty for a folder."""
        return self.storage.partition("://")[0] if "://" in self.storage else ""


def find_origin(root: Path, revision: str = "HEAD") -> Origin:
    """Find where a clone at this revision comes from and sends to.

    Parameters
    ----------
    root
        The project's folder.
    revision
        A commit, branch or tag.

    Returns
    -------
    Origin

    Raises
    ------
    DataError
        There is no git remote `origin`, it lacks the revision, or there is no default DVC remote.
    """
    output("git", "rev-parse", "--git-dir", cwd=root)
    commit = (output_or_none("git", "rev-parse", "--verify", f"{revision}^{{commit}}", cwd=root) or "").strip()
    if not commit:
        raise DataError(f"this repository has no commit, branch or tag '{revision}'. `git fetch` gets newer ones.")
    url = (output_or_none("git", "remote", "get-url", "origin", cwd=root) or "").strip()
    if not url:
        raise DataError("this repository has no git remote called origin, from which another machine could clone it.")
    url = url.removeprefix("file://")
    if not re.match(r"^([\w+.-]+://|[^/]+:)", url):  # else an address, or git's short form of one, host:path
        url = str((root / url).resolve())
    if not output("git", "branch", "--remotes", "--contains", commit, "--list", "origin/*", cwd=root).strip():
        raise DataError(f"origin lacks commit {commit[:10]}, so that no other machine can clone it. Run `git push`.")
    from dvc.config import Config, ConfigError

    try:
        config = Config(str(root.resolve() / ".dvc"))
        name = config["core"]["remote"]
        storage = config["remote"][name]["url"]
    except (ConfigError, KeyError):
        raise DataError(
            "there is no default DVC remote that another machine could push to. Set one: docs/remotes.md."
        ) from None
    cache = str(config["cache"].get("dir") or root.resolve() / ".dvc/cache")
    folder = output("git", "rev-parse", "--show-prefix", cwd=root).strip() or "."
    named = [(output_or_none("git", "config", f"user.{key}", cwd=root) or "").strip() for key in ("name", "email")]
    return Origin(url, commit, name, storage, folder, cache, named[0] or "biopsy", named[1] or "biopsy@localhost")
