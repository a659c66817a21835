"""The command `biopsy`: one function per verb, which imports what it needs when it runs, so that `--help` is quick.

In: the words of a command line. Out: what the rooms print and write.
May import: every room above.
"""

import argparse
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from biopsy.cli import experiments, export, predict, show
from biopsy.core.errors import run

VERBS = (
    show.add_list, predict.add_predict, predict.add_evaluate, predict.add_explain, export.add_export,
    export.add_publish, predict.add_serve, show.add_results, show.add_report, experiments.add_compare,
    experiments.add_experiments, export.add_convert_weights, export.add_convert_encoder, show.add_info,
    show.add_show_augment, experiments.add_tune, experiments.add_queue, experiments.add_launch, show.add_completion,
)  # fmt: skip


def main() -> None:
    """Run the command line; a user's error is one sentence."""
    run(command, "nothing was changed.")


def command(arguments: Sequence[str] | None = None) -> None:
    """Parse `arguments` (default: those of the process) and do what they ask."""
    chosen = new_parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text of the screen's encoding
    chosen.run(chosen)


def _joined(words: Sequence[str]) -> list[str]:
    """Write `--map -1=benign` as `--map=-1=benign`: argparse takes a word that begins with a dash for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--map" and word.startswith("-") and not word.startswith("--"):
            joined[-1] = f"--map={word}"
        else:
            joined.append(word)
    return joined


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
