"""Several models as one: the mean of their calibrated probabilities, and their networks in one ONNX graph."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import SourceError, UnsuitableModelError
from biopsy.core.layout import is_fold
from biopsy.images.looks.record import Looks, Range
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import INPUT, OUTPUT

SAME = ("task", "protocol", "labels", "preparation", "threshold", "synthetic", "extra_inputs")

OWN_STAINS = "Each fold has a stain of its own. Export one of them, or train with `-S stain.method=none` to join folds."


def members_of(folders: Sequence[Path]) -> list[Path]:
    """List the models that folders hold: each one, or those of its folds. Raises `SourceError` where one holds none."""
    found: list[Path] = []
    for folder in folders:
        inside = [path.parent for path in folder.glob("*-*/model.json") if is_fold(path.parent)]
        found += [folder] if (folder / "model.json").exists() or not inside else sorted(inside, key=_fold)
    if len(set(found)) < len(found):
        raise SourceError("the same model is named twice. Name each folder once.")
    return found


def open_models(folders: Sequence[Path]) -> "Model | Ensemble":
    """Load the models that folders hold; several answer together. Raises `SourceError`."""
    found = members_of(folders)
    models = [Model(folder) for folder in found]
    return models[0] if len(models) == 1 else Ensemble(models, found)


def _fold(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, folder.name.split("-")))


class Ensemble:
    """Models that answer together, as far as `biopsy export` asks a `Model`.

    Attributes
    ----------
    models : list of Model
        Of one task, protocol and preparation; their order does not matter.
    card : Card
        That of the first, with what holds for all.
    learnt : frozenset of bytes, or None
        The images that any of them has learnt from.

    Raises
    ------
    SourceError
        The models do not fit together.
    """

    def __init__(self, models: Sequence[Model], folders: Sequence[Path]) -> None:
        cards, first = [model.card for model in models], models[0].card
        for card, folder in zip(cards, folders, strict=True):
            other = next((name for name in SAME if getattr(card, name) != getattr(first, name)), None)
            if other:
                stained = other == "preparation" and bool(first.fold and first.preparation.stain)
                raise (UnsuitableModelError if stained else SourceError)(
                    f"{folder} and {folders[0]} cannot answer together: their {other} differs. "
                    + (OWN_STAINS if stained else "Name folds or seeds of one model.")
                )
        if first.fold and len({(card.data.get("labels"), card.data.get("split")) for card in cards}) > 1:
            raise SourceError(
                f"the folds in {', '.join(map(str, folders))} are of different labels or splits. Make them again with "
                "`dvc repro`."
            )
        hashes = sorted(card.model_sha256 for card in cards)
        if len(set(hashes)) < len(hashes):
            raise SourceError(f"two of {', '.join(map(str, folders))} are the same model. Name each once.")
        self.models = sorted(models, key=lambda model: model.card.model_sha256)
        looks = [card.training for card in cards if card.training]
        self.card = first.model_copy(
            update={
                "fold": None,
                "temperature": 1.0,
                "calibration": None,
                "probe": None,
                "training": _all_looks(looks) if len(looks) == len(cards) else None,
                "data": {k: v for k, v in first.data.items() if all(card.data.get(k) == v for card in cards)},
                "model_sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
                "members": hashes,
            }
        )
        learnt = [model.learnt for model in models]
        self.learnt = None if None in learnt else frozenset().union(*(keys for keys in learnt if keys))

    def probabilities(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """As `Model.probabilities`: the mean of what the models answer."""
        return np.mean([model.probabilities(views) for model in self.models], axis=0)


def join(networks: Sequence[bytes]) -> Any:
    """Put networks side by side on one input, and take the mean of what they answer.

    What they share, such as a frozen backbone, stands in the graph once and runs once.

    Parameters
    ----------
    networks
        Serialised `ModelProto`s from `images` to `probabilities`.

    Returns
    -------
    onnx.ModelProto
        From `images` to `probabilities`, without the other outputs.
    """
    import onnx
    from onnx import compose, helper

    models = [onnx.load_from_string(network) for network in networks]
    joined, outputs = models[0], [f"m{number}/{OUTPUT}" for number in range(len(models))]
    graphs = [
        compose.add_prefix_graph(model.graph, f"m{number}/", rename_inputs=False) for number, model in enumerate(models)
    ]
    shared = _Shared()
    for graph in graphs:
        shared.add(graph)
    answers = [shared.names.get(name, name) for name in outputs]
    made = helper.make_graph(
        [*shared.nodes, helper.make_node("Mean", answers, [OUTPUT])],
        "ensemble",
        [value for value in joined.graph.input if value.name == INPUT],
        [value for value in joined.graph.output if value.name == OUTPUT],
        shared.initializers,
    )
    del joined.graph.output[:]
    joined.graph.CopyFrom(made)
    return joined


class _Shared:
    """Nodes and constants of several graphs, each that does the same with the same only once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.names: dict[str, str] = {}  # of what is left out: what stands for it
        self._first: dict[bytes, list[str]] = {}

    def add(self, graph: Any) -> None:
        for constant in graph.initializer:
            name, constant.name = constant.name, ""
            key, constant.name = constant.SerializeToString(deterministic=True), name
            if not self._stands(key, [name]):
                self.initializers.append(constant)
        for node in graph.node:
            node.input[:] = [self.names.get(name, name) for name in node.input]
            outputs, name = list(node.output), node.name
            del node.output[:]
            node.name = ""
            key = node.SerializeToString(deterministic=True)
            node.output[:], node.name = outputs, name
            if not self._stands(key, outputs):
                self.nodes.append(node)

    def _stands(self, key: bytes, outputs: list[str]) -> bool:
        first = self._first.setdefault(hashlib.sha256(key).digest(), outputs)
        self.names.update(zip(outputs, first, strict=True))
        return first is not outputs


def _all_looks(looks: Sequence[Looks]) -> Looks:
    """Span the ranges of several trainings."""
    names = [name for name in looks[0].ranges if all(name in look.ranges for look in looks)]
    ranges = {name: [look.ranges[name] for look in looks] for name in names}
    spans = {
        name: Range(
            low=min(r.low for r in found),
            median=sorted(r.median for r in found)[len(found) // 2],
            high=max(r.high for r in found),
        )
        for name, found in ranges.items()
    }
    return Looks(images=max(look.images for look in looks), ranges=spans)
