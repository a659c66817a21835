"""The command `biopsy`: one function per verb, which imports what it needs when it runs, so that `--help` is quick."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biopsy.errors import run


def main() -> None:
    """Run the command line; a mendable error is one sentence."""
    run(command, "nothing was changed.")


def command(arguments: Sequence[str] | None = None) -> None:
    """Parse `arguments` (default: those of the process) and do what they ask."""
    parser = argparse.ArgumentParser(prog="biopsy", description="What stands beside the pipeline; `dvc repro` runs it.")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_results, _tune):
        add(verbs)
    chosen = parser.parse_args(arguments)
    chosen.run(chosen)


def _results(verbs: Any) -> None:
    """Add `biopsy results`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.results import describe_results

        print(describe_results(chosen.root))

    verb = verbs.add_parser("results", help="print a table of the test results")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _tune(verbs: Any) -> None:
    """Add `biopsy tune`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.tuning import tune

        tune(chosen.experiment, chosen.task, chosen.protocol, chosen.trials, tuple(chosen.set))

    verb = verbs.add_parser("tune", help="search good parameters for an experiment, by its validation figures")
    verb.add_argument("experiment", help="a preset of conf/experiment/")
    verb.add_argument("--task", default="binary", help="binary (default) or multiclass")
    verb.add_argument("--protocol", default="case", help="default: case")
    verb.add_argument("--trials", type=int, help="how many in all, earlier ones counted (default: tune.trials)")
    verb.add_argument("-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    verb.set_defaults(run=act)


if __name__ == "__main__":
    main()
