"""The command `biopsy`: one function per verb, which imports what it needs when it runs, so that `--help` is quick.

In: the words of a command line. Out: what the rooms print and write.
May import: every room above.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

from typer import Context, Exit, Option, TyperException
from typer.main import get_command

from biopsy.cli import experiments, export, predict, show
from biopsy.cli.verb import new_verbs
from biopsy.core.errors import ParamsError, run
from biopsy.core.stores import PACKAGES

STORES = tuple(f"{kind}://" for kind in PACKAGES)
app = new_verbs()
for room in (predict, export, show, experiments):
    app.add_typer(room.verbs)


@app.callback(invoke_without_command=True)
def without_verb(
    context: Context, version: Annotated[bool, Option("--version", help="Print the version and exit.")] = False
) -> None:
    """Use and compare models. `dvc repro` runs the pipeline."""
    if version:
        from importlib.metadata import version as version_of

        print(f"biopsy {version_of('biopsy')}")
        raise Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line; a user's error is one sentence."""
    run(command, "nothing was changed.")


def command(arguments: Sequence[str] | None = None) -> None:
    """Parse `arguments` (default: those of the process) and do what they ask.

    Raises
    ------
    ParamsError
        If there is no such verb or option, or a value does not fit.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbs = get_command(app)
    for word in words:
        given = word.partition("=")[2] if word.startswith("--") else word
        if given.startswith(STORES):  # a `Path` would make a folder `s3:` of it
            raise ParamsError(
                f"{given} is in an object store. Name a file or folder of this machine, and copy it yourself."
            )
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text of the screen's encoding
    if "_BIOPSY_COMPLETE" in os.environ:  # a shell asks what can follow
        verbs.main(prog_name="biopsy")
    try:
        # `verbs.main` does the same, but hides Ctrl-C, and what it interrupted, behind an exit code
        with verbs.make_context("biopsy", words) as context:
            verbs.invoke(context)
    except Exit as left:
        if left.exit_code:
            sys.exit(left.exit_code)
    except TyperException as error:
        verb = [word for word in words[:1] if word in getattr(verbs, "commands", ())]
        told = " ".join(error.format_message().replace("Value error, ", "").split())
        told += "" if told.endswith((".", "?")) else "."
        raise ParamsError(f"{told} `{' '.join(['biopsy', *verb])} --help` shows what there is.") from None
