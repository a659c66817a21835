"""What several verbs share."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option, Typer

MODEL = "a model's folder or .onnx file, here or in a repository: REPO@REVISION:PATH"

Model = Annotated[str | None, Option("--model", metavar="MODEL", help=f"{MODEL} (default: the only one here)")]
Root = Annotated[Path, Option(metavar="FOLDER", help="the project's folder")]


def repeatable(*names: str, metavar: str, help: str) -> Any:
    """Return an option that can be given several times, or not at all."""
    return Option(*names, metavar=metavar, help=help, default_factory=list, show_default=False)


Models = Annotated[
    list[str], repeatable("--model", metavar="MODEL", help=f"{MODEL}; repeatable (default: the only one here)")
]
Changes = Annotated[list[str], repeatable("-S", "--set", metavar="KEY=VALUE", help="as for `dvc exp run`; repeatable")]


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


def one_model(name: str | None) -> Path:
    """Find the model that a person names, or the only one here."""
    from biopsy.serving.finding import only_model

    return model_path(name) if name else only_model()


def figures_of(path: Path) -> dict[str, Any] | None:
    """Find the test figures of a model's folder; imports half a second of modules, so only when called."""
    from biopsy.experiments.model_info import figures_of

    return figures_of(path)
