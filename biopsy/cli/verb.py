"""What several verbs share."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option, Typer

MODEL = "a model's folder or .onnx file, here or in a repository: REPO@REVISION:PATH"

Model = Annotated[str | None, Option("--model", metavar="MODEL", help=f"{MODEL} (default: the only one here)")]
Models = Annotated[
    list[str],
    Option(
        "--model", metavar="MODEL", help=f"{MODEL}; repeatable (default: the only one here)",
        default_factory=list, show_default=False,
    ),
]  # fmt: skip
Root = Annotated[Path, Option(metavar="FOLDER", help="the project's folder")]
Changes = Annotated[
    list[str],
    Option(
        "-S", "--set", metavar="KEY=VALUE", help="as for `dvc exp run`; repeatable",
        default_factory=list, show_default=False,
    ),
]  # fmt: skip


def new_verbs() -> Typer:
    """Return an empty group of verbs. Help is plain text: a screen reader and `less` show it as it is."""
    return Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


def examples(*lines: str) -> str:
    """Write the end of a verb's help; `\\b` keeps its lines as they are."""
    return "\n".join(["\b", "examples:", *(f"  {line}" for line in lines)])


def model_path(name: str) -> Path:
    """Find the model that a person names; DVC is asked only about one of a repository."""
    from biopsy.serving.revision import find_model

    return find_model(name)


def figures_of(path: Path) -> dict[str, Any] | None:
    """Find the test figures of a model's folder; imports half a second of modules, so only when called."""
    from biopsy.experiments.model_info import figures_of

    return figures_of(path)
