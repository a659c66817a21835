"""The command `biopsy`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from biopsy.errors import run
from biopsy.results import describe_results


def main() -> None:
    """Run the command line; a mendable error is one sentence."""
    run(command, "nothing was changed.")


def command(arguments: Sequence[str] | None = None) -> None:
    """Parse `arguments` (default: those of the process) and do what they ask."""
    parser = argparse.ArgumentParser(prog="biopsy", description="Results of the pipeline; `dvc repro` runs it.")
    commands = parser.add_subparsers(dest="command", required=True)
    results = commands.add_parser("results", help="print a table of the test results")
    results.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    chosen = parser.parse_args(arguments)
    print(describe_results(chosen.root))


if __name__ == "__main__":
    main()
