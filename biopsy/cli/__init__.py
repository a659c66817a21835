"""The command `biopsy`: one function per verb, which imports what it needs when it runs, so that `--help` is quick.

In: the words of a command line. Out: what the rooms print and write.
May import: every room above.
"""

import argparse
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from biopsy.cli import give, many, read, use
from biopsy.core.errors import run

VERBS = (
    read.add_list, use.add_predict, use.add_evaluate, use.add_explain, give.add_export, give.add_publish, use.add_serve,
    read.add_results, read.add_report, many.add_compare, many.add_experiments, give.add_convert_weights, read.add_info,
    read.add_show_augment, many.add_tune, many.add_queue, many.add_launch, read.add_completion,
)  # fmt: skip


def main() -> None:
    """Run the command line; a user's error is one sentence."""
    run(command, "nothing was changed.")


def command(arguments: Sequence[str] | None = None) -> None:
    """Parse `arguments` (default: those of the process) and do what they ask."""
    chosen = new_parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text of the screen's encoding
    chosen.run(chosen)


def new_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="biopsy", description="Use and compare models. `dvc repro` runs the pipeline."
    )
    parser.set_defaults(run=lambda _: parser.print_help())
    verbs = parser.add_subparsers(metavar="COMMAND")
    for add in VERBS:
        add(verbs)
    return parser
