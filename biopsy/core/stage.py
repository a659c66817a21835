"""The frame of every stage: one process at a time, one place that prints errors."""

import sys
from collections.abc import Callable
from pathlib import Path

from biopsy.core.errors import BiopsyError, run
from biopsy.core.locks import stage_lock, stop_with_parent
from biopsy.core.outside import own_names


def run_stage(main: Callable[[], None], interrupted: str = "Run `dvc repro` again to go on.") -> None:
    """Run a stage's `main` under the lock of this stage and these arguments; errors are sentences (`errors.run`).

    Parameters
    ----------
    main
        Reads the parameters and the arguments, and does the work.
    interrupted
        What Ctrl-C or a polite kill (SIGTERM) should say about going on.
    """

    def locked() -> None:
        stop_with_parent()
        with stage_lock(_name(sys.argv)):
            try:
                main()
            except BiopsyError as error:
                raise type(error)(own_names(str(error))) from None

    run(locked, interrupted)


def _name(arguments: list[str]) -> str:
    """Name the stage as DVC does: `train binary case`; `--help` and its like end before they write anything."""
    return " ".join([Path(arguments[0]).stem, *(word for word in arguments[1:] if not word.startswith("--"))])
