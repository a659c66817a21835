"""What several verbs share."""

import argparse
from pathlib import Path
from typing import Any


def new_verb(verbs: Any, name: str, words: str, *examples: str) -> argparse.ArgumentParser:
    """Add a verb whose help ends with examples."""
    shown = "\n".join(["examples:", *(f"  {example}" for example in examples)])
    added: argparse.ArgumentParser = verbs.add_parser(
        name, help=words, epilog=shown, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return added


def add_model(verb: argparse.ArgumentParser, several: bool = False) -> None:
    """Add `--model`: one model, a path; or the words that name `several`."""
    kind: dict[str, Any] = {"action": "append", "default": []} if several else {"type": model_path}
    verb.add_argument(
        "--model", metavar="MODEL",
        help="a model's folder or .onnx file, here or in a repository: REPO@REVISION:PATH"
        f"{'; repeatable' * several} (default: the only one here)",
        **kind,
    )  # fmt: skip


def model_path(name: str) -> Path:
    """Find the model that a person names; DVC is asked only about one of a repository."""
    from biopsy.serving.revision import find_model

    return find_model(name)


def figures_of(path: Path) -> dict[str, Any] | None:
    """Find the test figures of a model's folder; imports half a second of modules, so only when called."""
    from biopsy.experiments.model_info import figures_of

    return figures_of(path)


def add_root(verb: argparse.ArgumentParser) -> None:
    """Add `--root`."""
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
