"""Where things lie that one stage writes and another reads."""

import os
import re
from pathlib import Path

from biopsy.core.errors import MachineError

RAW = Path("data/raw")
ORIGINALS, METADATA = RAW / "images", RAW / "metadata.csv"
SLIDES, SOURCE = RAW / "slides.csv", RAW / "source.json"
IMAGES, LABELS = Path("data/interim/images.csv"), Path("data/interim/labels.csv")
SPLITS = Path("data/splits")
RESIZED, STAINED = Path("data/resized"), Path("data/stained")
PREDICTIONS = Path("data/predictions")
EXPORTS, EXPORTED = Path("exports"), "model.onnx"  # the stage export writes exports/<name>/model.onnx


def exported_in(folder: Path) -> Path | None:
    """Return the .onnx file of a folder that holds an exported model and no Keras model, else None."""
    inside = folder / EXPORTED
    return inside if inside.is_file() and not (folder / "model.keras").exists() else None


def resized_path(image_id: str) -> Path:
    """Return where an image lies below the resized tree, and below a stained one; its labels do not matter."""
    return Path(f"{image_id}.png")


def is_fold(folder: Path) -> bool:
    """Say whether a folder has the name of a fold's model, such as `models/<name>/1-2` (`Fold.name`)."""
    return re.fullmatch(r"[0-9]+-[0-9]+", folder.name) is not None


def project_of(model: Path) -> Path:
    """Return the project that keeps a model as `models/<name>`, or that of a fold as `models/<name>/<fold>`."""
    folder = model.resolve()
    return (folder.parent if is_fold(folder) else folder).parent.parent


def home_of(folder: Path) -> Path | None:
    """Return the project whose experiment runs in `folder` (`dvc exp run --temp`, a queue), or None."""
    parts = folder.parts
    places = [i for i in range(len(parts) - 3) if parts[i : i + 3] == (".dvc", "tmp", "exps")]
    return Path(*parts[: places[0]]) if places else None


def model_name(model: Path) -> str:
    """Return the name for files made from a model: that of its folder, or for a fold `<name>-<fold>`."""
    folder = model.resolve()
    return f"{folder.parent.name}-{folder.name}" if is_fold(folder) else folder.name


def cache(kind: str) -> Path:
    """Return this machine's cache for all projects, `$BIOPSY_CACHE/<kind>`; all in it can be made again."""
    base = os.environ.get("BIOPSY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "biopsy")
    try:
        return Path(base).expanduser() / kind
    except RuntimeError:  # the machine does not know the user, as in some containers
        raise MachineError(
            "this user has no home folder. Set HOME, or BIOPSY_CACHE, to a folder to write in."
        ) from None
