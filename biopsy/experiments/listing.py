"""What there is, one line each: backbones, augmentations, presets, models. `biopsy list`.

Presets and models are read as text, so that they show at once; what they hold is checked where they are used.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from biopsy.core.encoders import ENCODERS
from biopsy.core.errors import SourceError
from biopsy.experiments.kinds import with_kind
from biopsy.serving.finding import exported_models
from biopsy.serving.onnx_metadata import read_facts

_AS_HYDRA = str.maketrans({'"': None, " ": None})  # {"level": 5} is written {level:5} there
# Errors that reading one of our files raises after a wrong edit.
EDITED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
UNTESTED = "no test figures of exactly these bytes"
NO_MODEL = "none here: `dvc repro` trains models, `biopsy export` makes .onnx files of them"


def list_kinds(kind: str | None = None, root: Path = Path(), width: int | None = None) -> Iterator[str]:
    """Say what there is.

    Parameters
    ----------
    kind
        'presets', 'models', 'encoders', 'augmentations' or 'backbones'; None: all, the quick ones first.
    root
        The project's folder: its conf/, models/, exports/ and metrics/.
    width
        Longer lines are cut at a word; None: none is, so that a program such as `grep` sees them whole.

    Yields
    ------
    str
        A line.
    """
    makers = {
        "presets": _presets,
        "models": _models,
        "encoders": _encoders,
        "augmentations": _augmentations,
        "backbones": _backbones,
    }
    for name in makers if kind is None else (kind,):
        try:
            for heading, entries in makers[name](root):
                yield heading
                column = max(map(len, entries), default=0)
                yield from (_fit(f"  {entry:{column}}  {text}", width) for entry, text in entries.items())
        except ModuleNotFoundError as error:
            if kind:
                raise
            yield f"{name}: need the extra `pipeline` (there is no package {error.name})"


def _fit(line: str, width: int | None) -> str:
    """Cut a line at a word where it is too long."""
    if width is None or len(line) <= width:
        return line
    return f"{line[: width - 1].rpartition(' ')[0].rstrip('.,;:(')} …"


def _presets(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each folder of conf/ with its presets and how their comments begin."""
    groups = sorted(path for path in (root / "conf").glob("*") if path.is_dir())
    if not groups:
        yield "presets: none here, because there is no folder conf/", {}
    for group in groups:
        sign = "+" if group.name == "experiment" else ""
        found = {path.stem: _comment(path) for path in sorted(group.glob("[!.]*.yaml"))}
        yield f"presets of {group.name}: dvc exp run -S {sign}{group.name}=NAME", found


def _comment(path: Path) -> str:
    """Return the words with which a preset opens: its comment up to a command, an empty line or a key."""
    words: list[str] = []
    for line in path.read_text("utf-8", "replace").splitlines():
        if line.startswith("# @package"):
            continue
        if not re.match(r"# \S", line):
            break
        words.append(line[2:])
    text = " ".join(words)
    return re.split(r"(?<=[a-z)\d]\.) (?=[A-Z])", text)[0]  # its first sentence


def _encoders(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the encoders of pathology whose terms are known."""
    may = {
        "free": "free",
        "non-commercial": "non-commercial",
        "no heads": "trained heads stay here",
        "own": "own terms",
    }
    found = {
        name: f"{known.size} px -> {known.width}; {may[known.allows]} ({known.licence}); {known.source}"
        for name, known in ENCODERS.items()
    }
    yield "encoders as ONNX files: dvc exp run -S model=onnx -S model.encoder.name=NAME -S model.weights=FILE", found


def _models(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the models of models/ and exports/."""
    found = {}
    for path in sorted((root / "models").rglob("model.json")):
        found[str(path.parent.relative_to(root))] = _folder(path.parent, root)
    for path in exported_models(root):
        found[str(path.relative_to(root))] = _exported(path, root)
    yield "models: biopsy predict IMAGES --model MODEL" if found else f"models: {NO_MODEL}", found


def _folder(folder: Path, root: Path) -> str:
    """Describe a model's folder, with the figures of the test of exactly this network and threshold."""
    try:
        card = json.loads((folder / "model.json").read_text("utf-8"))
        name = f"{card['task']}-{card['protocol']}"
        try:
            short, details = (
                json.loads((root / "metrics" / name / f).read_text()) for f in ("test.json", "details.json")
            )
            tested = [(model["sha256"], model["temperature"]) for model in details["models"]]
            if tested == [(card["model_sha256"], card["temperature"])] and details["threshold"] == card["threshold"]:
                return _words(card, {"test": short, **details})
        except EDITED:
            pass  # tested elsewhere, by an earlier version, edited, or not at all
        return _words(card, None, _of_folds(card, root))
    except EDITED:
        return "model.json cannot be read: `biopsy info` says why"


def _of_folds(card: Mapping[str, Any], root: Path) -> str:
    """Say where the figures of a fold are, or of a mean of folds, which has none; else that there are none."""
    place, members = f"metrics/{card['task']}-{card['protocol']}", card.get("members")
    try:
        tested = {m["sha256"] for m in json.loads((root / place / "details.json").read_text())["models"] if m["fold"]}
        if tested.issuperset(members or [card["model_sha256"]]):
            what = (
                f"the mean of {len(members)} folds, each tested alone" if members else "a fold, tested with the others"
            )
            return f"{what}: {place}/test.json"
    except EDITED:
        pass  # no cross-validation, or tested elsewhere
    return UNTESTED


def _exported(path: Path, root: Path) -> str:
    try:
        facts = read_facts(path)[1]
        card = json.loads(facts["card"])
        return _words(card, json.loads(facts.get("figures", "null")), _of_folds(card, root))
    except (SourceError, *EDITED):
        return "cannot be used: `biopsy predict` says why"


def _words(card: Mapping[str, Any], figures: Mapping[str, Any] | None, told: str = UNTESTED) -> str:
    test = (figures or {}).get("test", {})
    if figures and test.get("macro_f1") is not None:
        told = f"macro-F1 {test['macro_f1']:.3f}"
        if test.get("f1_low") is not None:
            told += f" ({test['f1_low']:.3f}-{test['f1_high']:.3f})"
        if figures.get("cases") is not None:
            told += f", {figures['cases']} cases"
    return f"{card['task']}, protocol {with_kind(card['protocol'])}{', synthetic' if card['synthetic'] else ''}: {told}"


def _augmentations(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with _describing():
        import_module("biopsy.training.augment")
        from biopsy.training.augment.registry import OPERATIONS

    yield (
        "augmentations: dvc exp run -S '++augment.every.NAME=STRENGTH'",
        {f"{name}={json.dumps(o.example).translate(_AS_HYDRA)}": o.description for name, o in OPERATIONS.items()},
    )


def _backbones(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with _describing():
        import_module("biopsy.networks.backbones")
        from biopsy.networks.backbones.registry import BACKBONES

    yield "backbones: dvc exp run -S model.backbone=NAME", {name: b.description for name, b in BACKBONES.items()}


class _StandIn:
    """Keras or TensorFlow while descriptions are read: every name exists, and nothing is computed."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()


@contextmanager
def _describing() -> Iterator[None]:
    """Import registries without Keras and TensorFlow, which take seconds; afterwards forget what was so imported."""
    backend = "biopsy.networks.backend"
    if backend in sys.modules:
        yield
        return
    before, stand_in = set(sys.modules), ModuleType(backend)
    vars(stand_in).update(keras=_StandIn(), tf=_StandIn())
    sys.modules[backend] = stand_in
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith("biopsy.") and name not in before]:
            del sys.modules[name]
            parent, _, own = name.rpartition(".")
            vars(sys.modules.get(parent, stand_in)).pop(own, None)
