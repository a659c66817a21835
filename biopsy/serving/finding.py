"""Which models there are here, and what they are called."""

from collections.abc import Mapping
from pathlib import Path

from biopsy.core.errors import SourceError, some
from biopsy.core.layout import EXPORTED, EXPORTS, model_name


def find_models() -> list[Path]:
    """List the model folders in models/, or the exported files if models/ has none. See `exported_models`."""
    folders = [path for path in _within(Path("models")) if (path / "model.json").is_file()]
    return folders or exported_models(Path())


def exported_models(root: Path) -> list[Path]:
    """List a project's exported models: `exports/<name>/model.onnx` of its stage, `exports/*.onnx` of the command.

    Raises `PermissionError` where a folder cannot be looked into: `glob` would pass over it, to another model.
    """
    found = _within(root / EXPORTS)
    inside = [path / EXPORTED for path in found if path.is_dir()]
    return [path for path in inside if path.is_file()] + [path for path in found if path.suffix == ".onnx"]


def _within(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def only_model() -> Path:
    """Return the only model here. Raises `SourceError` if there is none, or more than one."""
    found = find_models()
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError(
            "models/ has no model. Name one with --model, get one with `dvc pull`, or train one with `dvc repro`."
        )
    raise SourceError(f"{found[0].parent}/ holds several models: {some(found, 8)}. Name one with --model.")


def short_name(path: Path) -> str:
    """Return what a model's folder or file is called, without where it is."""
    path = path.resolve()
    if path.suffix.lower() == ".onnx" and path.name != EXPORTED:
        return path.stem
    return model_name(path.parent if path.name == EXPORTED else path)


def names_of(models: Mapping[str, Path]) -> dict[str, Path]:
    """Call models by their short names; those that share one as the person did."""
    short = [short_name(path) for path in models.values()]
    return {
        name if short.count(name) == 1 else words: path
        for name, (words, path) in zip(short, models.items(), strict=True)
    }
