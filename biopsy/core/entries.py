"""Names of registry entries, read from the source: a stage without TensorFlow can tell that a later one will fail."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from biopsy.core.errors import ParamsError
from biopsy.core.params import Params, read_params
from biopsy.core.registry import unknown

LIBRARY = Path(__file__).parent.parent
BACKBONES, LOSSES, OPERATIONS = "networks/backbones", "training/losses.py", "training/augment"
OPTIMIZERS, STAINS, GRAMMARS = "training/optimizers", "images/stains", "tables/labels"
OTHERS = {"stain.method": ("none",), "labels.grammar": ("null",)}
CALL = re.compile(r"^\s*register\(", re.MULTILINE)
NAMED = re.compile(r"""^\s*register\(\s*\w+\(\s*["']([^"']+)["']""", re.MULTILINE)


@cache
def entry_names(place: str) -> tuple[str, ...]:
    """List the names that the files of a registry register; none where a file does not write its name out.

    Parameters
    ----------
    place
        A file or folder of `biopsy/`: 'networks/backbones'.
    """
    path, names = LIBRARY / place, list[str]()
    for file in sorted(path.glob("[!.]*.py")) if path.is_dir() else [path]:
        text = file.read_text("utf-8")
        found = NAMED.findall(text)
        if len(found) < len(CALL.findall(text)):
            return ()
        names += found
    return tuple(names)


def stage_params() -> Params:
    """Read `params.yaml` for a stage before `train`, which would tell of a misspelt name too late."""
    params = read_params()
    check_names(params)
    return params


def check_names(params: Params) -> None:
    """Reject a name that no registry has. Raises `ParamsError`, which lists the names and the nearest one."""
    for key, name, place in _named(params):
        known = entry_names(place)
        if known and name not in known:
            raise ParamsError(unknown(key, name, [*known, *OTHERS.get(key, ())]))


def _named(params: Params) -> Iterator[tuple[str, str, str]]:
    """Yield each parameter that names an entry, the name, and where its registry's files are."""
    yield "model.backbone", params.model.backbone, BACKBONES
    yield "train.optimizer", params.train.optimizer, OPTIMIZERS
    yield "train.loss.name", params.train.loss.name, LOSSES
    if params.stain.method != "none":
        yield "stain.method", params.stain.method, STAINS
    if params.labels.grammar:
        yield "labels.grammar", params.labels.grammar, GRAMMARS
    for name in params.augment.every:
        yield f"augment.every.{name}: the name", name, OPERATIONS
    for task, strengths in params.augment.copies.items():
        for name in strengths:
            yield f"augment.copies.{task}.{name}: the name", name, OPERATIONS
