"""Job files that run an experiment of this project on a rented or shared machine; who rents it is not our matter.

A job clones the repository at a revision, installs it, pulls, runs one `dvc exp run`, pushes its files and its
experiment. Templates lie in `jobs/`; `jobs/run.sh.j2` is what all kinds run.
"""

import argparse
import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biopsy.core.errors import ParamsError
from biopsy.experiments.compose import compose
from biopsy.experiments.origin import Origin, find_origin

KINDS = {"sky": "sky.yaml.j2", "slurm": "slurm.sh.j2", "k8s": "k8s.yaml.j2"}
GPU = re.compile(r"^(?:(?P<name>[A-Za-z][\w.-]*)(?::(?P<many>[1-9]\d?))?|(?P<count>[1-9]\d?))$")


@dataclass(frozen=True)
class Machine:
    """What is asked for.

    Attributes
    ----------
    kind
        `sky`, `slurm` or `k8s`.
    gpu
        `A100`, `A100:2` or a number; None: no GPU.
    hours
        After which the job ends, where the scheduler takes such a limit.
    """

    kind: str
    gpu: str | None = None
    hours: int = 24


def render_job(machine: Machine, command: Sequence[str], revision: str = "HEAD", root: Path = Path()) -> str:
    """Write a job file.

    Parameters
    ----------
    machine
        Of which kind, and how large.
    command
        `dvc exp run` and its options; empty: no options.
    revision
        Which commit, branch or tag the job runs; `origin` has it.
    root
        The project's folder.

    Returns
    -------
    str
        YAML, or for Slurm a script.

    Raises
    ------
    ParamsError
        A command or parameter that the job would fail with, or a GPU that cannot be parsed.
    DataError
        The machine could not clone, or could not push.
    """
    model, count = _gpu(machine)
    if machine.hours < 1:
        raise ParamsError(f"--hours must be at least 1. Got {machine.hours}.")
    name, words = _experiment(command, root)
    origin = _without_secrets(find_origin(root, revision))
    _check_storage(machine.kind, origin)
    packages = [f"dvc[{origin.scheme}]"] if origin.scheme not in ("", "http", "https") else []
    packages += ["tensorflow[and-cuda]"] if count else []
    templates, quoted = _templates(), shlex.quote
    script = templates.get_template("run.sh.j2").render(
        origin=origin, name=quoted(name), command=shlex.join(words), packages=shlex.join(packages), quoted=quoted
    )
    job = re.sub(r"[^a-z0-9]+", "-", f"biopsy-{name}".lower())[:50].strip("-")
    return templates.get_template(KINDS[machine.kind]).render(
        script=script, job=job, model=model, count=count, hours=machine.hours, commit=origin.commit
    )


def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - no HTML: words are quoted for the shell, and YAML takes the script as a block
        loader=FileSystemLoader(Path(__file__).parent / "jobs"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _experiment(command: Sequence[str], root: Path) -> tuple[str, list[str]]:
    """Check the command as far as that is possible here; return the experiment's name and the whole command."""
    words = list(command) or ["dvc", "exp", "run"]
    if words[:3] != ["dvc", "exp", "run"]:
        raise ParamsError(f"after -- write `dvc exp run` and its options. Got `{shlex.join(words)}`.")
    if any(not word.isprintable() for word in words):
        raise ParamsError("the command holds a line break or another character that cannot be printed.")
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--name")
    parser.add_argument("-S", "--set-param", action="append", default=[])
    try:
        chosen, rest = parser.parse_known_args(words[3:])
    except argparse.ArgumentError as error:
        raise ParamsError(f"`{shlex.join(words)}`: {error}.") from None
    elsewhere = [word for word in rest if word in ("--queue", "--run-all", "--temp", "--dry")]
    if elsewhere:
        raise ParamsError(f"`dvc exp run {elsewhere[0]}` leaves nothing to push. Take {elsewhere[0]} out.")
    if chosen.set_param:
        compose(None, chosen.set_param, root)
    name = chosen.name or f"launch-{secrets.token_hex(3)}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ParamsError(f"an experiment is named with letters, digits, '.', '_' and '-'. Got '{name}'.")
    options = [option for value in chosen.set_param for option in ("-S", value)]
    return name, ["dvc", "exp", "run", "--pull", "--allow-missing", "--name", name, *options, *rest]


def _gpu(machine: Machine) -> tuple[str | None, int]:
    """Read `A100:2`: a model, or None, and how many of them."""
    if machine.gpu is None:
        return None, 0
    found = GPU.match(machine.gpu)
    if not found or (machine.kind == "sky" and found["count"]):
        form = "a model such as A100 or A100:2" if machine.kind == "sky" else "A100, A100:2 or a number"
        raise ParamsError(f"--gpu takes {form}. Got '{machine.gpu}'.")
    return found["name"], int(found["many"] or found["count"] or 1)


def _without_secrets(origin: Origin) -> Origin:
    """Leave out what addresses may hold of passwords and tokens: a job file is no place for them."""
    url = re.sub(r"^(https?://)[^/@]*@", r"\1", origin.url)
    return replace(origin, url=url, storage=re.sub(r"(://[^/:@]*):[^/@]*@", r"\1@", origin.storage))


def _check_storage(kind: str, origin: Origin) -> None:
    """Reject what lies in a folder that the machine does not see."""
    local = [f"the git remote origin is {origin.url}"] if origin.url.startswith("/") else []
    local += [] if origin.scheme else [f"the DVC remote {origin.remote} is {origin.storage}"]
    if local and kind != "slurm":  # whose machines most often share their home folders
        raise ParamsError(
            f"{local[0]}, a folder of this machine, which a rented one does not see. Use an address; docs/remotes.md."
        )
