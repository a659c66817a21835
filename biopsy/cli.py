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
    for add in (_results, _show_augment):
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


def _show_augment(verbs: Any) -> None:
    """Add `biopsy show-augment`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.show_augment import show_augment

        path = show_augment(
            chosen.experiment, chosen.set, task=chosen.task, images=chosen.images, out=chosen.out, root=chosen.root
        )
        print(f"wrote {path}")

    verb = verbs.add_parser("show-augment", help="draw what an experiment's augmentation makes of an image")
    verb.add_argument("experiment", nargs="?", help="a file of conf/experiment/ (default: the parameters in force)")
    verb.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    verb.add_argument(
        "--task", choices=["binary", "multiclass"], default="multiclass", help="whose minority is doubled"
    )
    verb.add_argument("--images", type=Path, help="a folder of PNGs (default: data/resized, else a drawn sample)")
    verb.add_argument("--out", type=Path, help="the PNG to write (default: plots/augment-<experiment>.png)")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


if __name__ == "__main__":
    main()
