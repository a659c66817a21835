"""Run git and DVC, and return what they print."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from biopsy.core.errors import BiopsyError, DataError, MachineError, reason_in


def output(*command: str, cwd: Path = Path(), env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end; `dvc exp run` may take hours.

    Parameters
    ----------
    command
        The program and its arguments; no shell reads them.
    cwd
        The folder to run it in.
    env
        Its environment; None: that of this process.

    Returns
    -------
    str
        Its standard output, read as UTF-8; invalid bytes become U+FFFD.

    Raises
    ------
    MachineError
        The program is not installed.
    DataError
        It failed, with its own reason; or there is no folder `cwd`.
    """
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError) as error:
        if error.filename != command[0]:
            raise DataError(f"`{command[0]}` cannot run in {cwd}, which is not a folder.") from None
        raise MachineError(f"{command[0]} is not on the PATH. Activate the environment.") from None
    if done.returncode:
        said = reason_in(done.stderr) or reason_in(done.stdout) or f"exit code {done.returncode}"
        outside = "not a git repository" in said or "not inside of a DVC repository" in said
        way = ". Run this in the project's folder, or name that with --root." if outside else ""
        raise DataError(f"`{' '.join(command[:3])}` failed: {said}{way}")
    return done.stdout


def output_or_none(*command: str, cwd: Path = Path()) -> str | None:
    """Do what `output` does; return None where the command fails, or is not there."""
    try:
        return output(*command, cwd=cwd)
    except BiopsyError:
        return None
