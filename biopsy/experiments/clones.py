"""One experiment in a clone of its own, on this machine or another: clone, pull, run, push."""

import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from biopsy.core.errors import BiopsyError, DataError
from biopsy.experiments.origin import Origin
from biopsy.experiments.shell import output


@dataclass(frozen=True)
class Task:
    """An experiment to run: its name, the `-S` options, and where the project is from."""

    name: str
    overrides: tuple[str, ...]
    origin: Origin


def run_in_clone(task: Task) -> str:
    """Run an experiment and push it: its commit to the git remote, its files to the DVC remote.

    Parameters
    ----------
    task
        The experiment. One of this name that was pushed before is replaced.

    Returns
    -------
    str
        Why it failed; empty where it did not. A failure is an answer, not an error, so that it stops no other task.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="biopsy-", ignore_cleanup_errors=True) as folder:
            _run(task, Path(folder))
    except BiopsyError as error:
        return str(error)
    return ""


def _run(task: Task, root: Path) -> None:
    from dvc.config import Config

    origin = task.origin
    if not origin.scheme and not Path(origin.storage).is_dir():
        raise DataError(f"the DVC remote {origin.remote} is {origin.storage}, a folder that this machine does not see.")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    variables = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    output("git", "clone", "--quiet", origin.url, str(root), env=variables)
    root = root / origin.folder
    call = partial(output, cwd=root, env=variables)
    call("git", "checkout", "--quiet", "--detach", origin.commit)
    call("git", "config", "user.name", origin.author)
    call("git", "config", "user.email", origin.email)
    with Config(str(root / ".dvc")).edit("local") as local:  # a relative address would lead elsewhere from here
        local["remote"] = {origin.remote: {"url": origin.storage}}
        if Path(origin.cache).is_dir():  # this machine sees it, so that nothing is downloaded or stored twice
            local["cache"] = {"dir": origin.cache}
    call("dvc", "pull", "--allow-missing")  # with --quiet DVC does not say why it fails either
    options = [option for value in task.overrides for option in ("-S", value)]
    call("dvc", "exp", "run", "--pull", "--allow-missing", "--name", task.name, *options)
    call("dvc", "exp", "push", "--force", "origin", task.name)
