"""A list of experiments on a Ray cluster, each in a clone of its own; what was pushed before is not run again.

Ray places the tasks and runs those of a lost machine elsewhere; git and DVC carry code, data and results.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from biopsy.core.engine import Engine
from biopsy.core.errors import DataError, ParamsError, reason_of
from biopsy.experiments.clones import Task, run_in_clone
from biopsy.experiments.compose import compose
from biopsy.experiments.origin import Origin, find_origin
from biopsy.experiments.shell import output
from biopsy.experiments.tuning import to_copy


def plan(overrides: Sequence[str], root: Path = Path()) -> list[Task]:
    """List the experiments of a sweep.

    Parameters
    ----------
    overrides
        As for `dvc exp run --queue -S`: `seed=0,1,2` makes three, two such make all pairs.
    root
        The project's folder.

    Returns
    -------
    list of Task
        A task's name tells the revision and the parameters, so that a second call knows what the first one did.

    Raises
    ------
    ParamsError
        Parameters that no run would take, or a file that a clone would lack.
    DataError
        Machines could not clone the project or send results.
    """
    from dvc.exceptions import InvalidArgumentError
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    try:
        sweeps = [tuple(sweep["params.yaml"]) for sweep in get_hydra_sweeps({"params.yaml": list(overrides)})]
    except (HydraException, InvalidArgumentError) as error:
        raise ParamsError(f"-S {' -S '.join(overrides)} is not a sweep: {reason_of(error)}") from None
    for sweep in sweeps:
        if lacking := to_copy(compose(None, sweep, root), root):
            raise ParamsError(
                f"-S {' -S '.join(sweep)} names '{lacking[0]}', which git does not know, so that a clone lacks it. "
                "Write the whole path of a file that every machine sees."
            )
    origin = find_origin(root)
    return [Task(_name(sweep, origin), sweep, origin) for sweep in sweeps]


def run_queue(tasks: Sequence[Task], engine: Engine, root: Path = Path()) -> None:
    """Run the tasks that `origin` does not have yet, and list all of them in this clone's `dvc exp show`.

    Parameters
    ----------
    tasks
        Of `plan`.
    engine
        Where they run.
    root
        The project's folder.

    Raises
    ------
    DataError
        Some of them failed; the others are kept.
    """
    told = {task.name: " ".join(task.overrides) or "no options" for task in tasks}
    before = pushed(tasks[0].origin, root)
    waiting = [task for task in tasks if task.name not in before]
    for name in sorted(set(told) - {task.name for task in waiting}):
        print(f"{name}: done before  {told[name]}", flush=True)
    failed = 0
    pool = ThreadPoolExecutor(max(len(waiting), 1))  # a thread waits for its task
    try:
        running = {pool.submit(engine.call, run_in_clone, task): task.name for task in waiting}
        for future in as_completed(running):
            name, reason = running[future], future.result()
            failed += bool(reason)
            print(f"{name}: {f'failed: {reason}' if reason else 'done'}  {told[name]}", flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what is done is kept. Run the same command to continue.") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who stops it does not want to wait for the longest task
    if names := sorted(pushed(tasks[0].origin, root) & set(told)):
        output("dvc", "exp", "pull", "--force", "--no-cache", "origin", *names, cwd=root)
        print("`dvc exp show` lists them; `dvc exp apply NAME` and `dvc pull` bring the files of one.")
    if failed:
        raise DataError(f"{failed} of {len(tasks)} experiments failed, as the lines above say.")


def pushed(origin: Origin, root: Path) -> set[str]:
    """Name the experiments of this revision that the git remote has."""
    pattern = f"refs/exps/{origin.commit[:2]}/{origin.commit[2:]}/*"
    return {line.rpartition("/")[2] for line in output("git", "ls-remote", "origin", pattern, cwd=root).splitlines()}


def _name(sweep: tuple[str, ...], origin: Origin) -> str:
    preset = next((value.partition("=")[2] for value in sweep if value.startswith("+experiment=")), "run")
    return f"{preset}-{hashlib.sha256(repr((origin.commit, sweep)).encode()).hexdigest()[:8]}"
