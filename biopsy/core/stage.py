"""The frame of every stage: one process at a time, one place that prints errors.

`python -m biopsy.core.stage train --task binary ...`, which stages/run.sh calls, runs a stage's script inside this
frame from its first import on.
"""

import argparse
import gc
import os
import resource
import runpy
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from biopsy.core.errors import STOPPED, BiopsyError, MachineError, run
from biopsy.core.locks import stage_lock, stop_with_parent
from biopsy.core.outside import own_names
from biopsy.core.params import read_params

NEEDED_GB = 4  # with less, C libraries crash while they are imported, with or without a message


def run_stage(main: Callable[[], None], interrupted: str = "Run `dvc repro` again to continue.") -> None:
    """Run a stage's `main` under the lock of this stage and these arguments; errors are sentences (`errors.run`).

    Parameters
    ----------
    main
        Reads the parameters and the arguments, and does the work.
    interrupted
        How to continue after Ctrl-C or SIGTERM; not for an experiment of a queue.
    """

    def locked() -> None:
        stop_with_parent()
        with stage_lock(_name(sys.argv)):
            try:
                main()
            except BiopsyError as error:
                raise type(error)(own_names(str(error))) from None

    if not gc.isenabled():  # by the function main of this module, during the stage's imports
        gc.freeze()
        gc.enable()
    if ".dvc/tmp/exps" in Path.cwd().as_posix():  # DVC makes a new folder for each experiment of a queue
        interrupted = "this experiment begins anew. Put it into the queue again (`dvc exp run --queue`)."
    try:
        run(locked, interrupted)
    except SystemExit as end:
        if end.code == STOPPED and "tensorflow" in sys.modules:
            os._exit(STOPPED)  # its threads still work; now and then an interpreter that ends under them crashes
        raise


def stage_arguments(about: str | None, *names: str) -> argparse.Namespace:
    """Read a stage's arguments, `--task binary --protocol case`; all of `names` are needed."""
    parser = argparse.ArgumentParser(description=about)
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def _name(arguments: list[str]) -> str:
    """Name the stage as DVC does: `train binary case`."""
    return " ".join([Path(arguments[0]).stem, *(word for word in arguments[1:] if not word.startswith("--"))])


def main() -> None:
    """Run stages/<name>.py with its arguments."""

    def script() -> None:
        _check_limits()
        if sys.argv[1] == "train":
            _choose_backend()
        path = Path("stages", f"{sys.argv[1]}.py")
        sys.argv[:2] = [str(path)]
        gc.disable()  # a search among what is imported, which stays, is a fifth of the imports' time
        runpy.run_path(str(path), run_name="__main__")

    run(script)


def _choose_backend() -> None:
    """Make Keras use `train.backend`, which it reads when it is imported; the stage reports wrong parameters."""
    try:
        backend = read_params().train.backend
    except BiopsyError:
        return
    if find_spec(backend) is None:
        raise MachineError(
            f"train.backend is {backend}, which {sys.executable} does not have. Run `pip install {backend}`, or set "
            "train.backend to tensorflow."
        )
    os.environ["KERAS_BACKEND"] = backend


def _check_limits() -> None:
    for kind, option in ((resource.RLIMIT_AS, "-v"), (resource.RLIMIT_DATA, "-d")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and limit < NEEDED_GB * 1e9:
            raise MachineError(
                f"memory is limited to {limit / 1e9:.1f} GB here, and the stages need {NEEDED_GB} GB. "
                f"Raise the limit (ulimit {option} unlimited), then run `dvc repro` again."
            )


if __name__ == "__main__":
    main()
