"""Load a network's weights from a file; the error names the first layer that does not fit."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from biopsy.core.errors import SourceError, reason_of
from biopsy.networks.backend import keras

Shapes = list[tuple[int, ...]]
# What h5py raises if an object is of another kind than expected.
ODD = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
TORCH_SUFFIXES = (".pt", ".pth", ".tar", ".bin", ".ckpt", ".safetensors")


def own_network(network: Callable[[Any], Any]) -> Callable[[Any, str | None], Any]:
    """Make a registry `build` from a function that builds a network of ours, with random weights or those of a file."""

    def build(pixels: Any, weights: str | None) -> Any:
        features = network(pixels)
        if weights:
            load_weights_file(keras.Model(pixels, features), Path(weights))
        return features

    return build


def load_weights_file(model: Any, path: Path) -> None:
    """Load a weights file into a network that it was made for.

    Parameters
    ----------
    model
        A Keras model with all layers of the network in the file, in the same order.
    path
        A `.weights.h5` of Keras 3, or an `.h5` of Keras 2 as on Keras's own server, both without the classifier.

    Raises
    ------
    SourceError
        Another kind of file, or weights of another network: names the first layer that does not fit.
    """
    if path.suffix in TORCH_SUFFIXES:
        raise SourceError(
            f"model.weights: {path} is a PyTorch file. Make a Keras one of it with "
            f"`biopsy convert-weights {path} <out>.weights.h5 --architecture <name>`."
        )
    try:
        with h5py.File(path, "r") as file:
            keras3 = "layers" in file
            stored = _keras3_shapes(file["layers"]) if keras3 else _keras2_shapes(file)
    except (OSError, *ODD) as error:
        raise SourceError(f"model.weights: {path} is not a weights file of Keras (HDF5): {reason_of(error)}.") from None
    if keras3 != path.name.endswith(".weights.h5"):
        kind = ".weights.h5" if keras3 else ".h5"
        raise SourceError(f"model.weights: {path} has the ending of another format. Rename it to {path.stem}{kind}.")
    wanted = list(_model_shapes(model))
    for number, (name, key, shapes) in enumerate(wanted):
        at = key if keras3 else list(stored)[number] if number < len(stored) else ""
        found = stored.get(at)
        if found is None or sorted(found) != sorted(shapes):
            what = f"{_text(found)} in the file" if found else "missing in the file"
            raise SourceError(
                f"model.weights: {path} does not fit model.backbone: layer {name} is {what} and {_text(shapes)} in the "
                "network. Is the file of another backbone?"
            )
    if not keras3 and len(stored) > len(wanted):
        raise SourceError(
            f"model.weights: {path} does not fit model.backbone: it has {len(stored)} layers with weights, the network "
            f"has {len(wanted)}. Take the file without the classifier ('notop')."
        )
    try:
        model.load_weights(path)
    except ODD as error:
        raise SourceError(f"model.weights: {path} does not fit model.backbone: {reason_of(error, 300)}") from None


def _model_shapes(model: Any) -> Iterator[tuple[str, str, Shapes]]:
    """Yield each layer with weights: its name, its group in a Keras 3 file (class name and count), its shapes."""
    counts: dict[str, int] = {}
    for layer in model.layers:
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        number = counts[kind] = counts.get(kind, -1) + 1
        if layer.weights:
            yield layer.name, f"{kind}_{number}" if number else kind, [tuple(w.shape) for w in layer.weights]


def _keras3_shapes(layers: Any) -> dict[str, Shapes]:
    """List the shapes of each layer's arrays; states of random generators do not count."""
    return {name: _shapes_in(group) for name, group in layers.items()}


def _shapes_in(group: Any) -> Shapes:
    shapes: Shapes = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
            shapes.append(tuple(item.shape))

    group.visititems(visit)
    return shapes


def _keras2_shapes(file: Any) -> dict[str, Shapes]:
    """List the shapes of each layer that has some, in the file's order."""
    root = file.get("model_weights", file)
    found = {}
    for name in root.attrs.get("layer_names", []):
        group = root[name]
        shapes = [tuple(group[weight].shape) for weight in group.attrs.get("weight_names", [])]
        if shapes:
            found[name if isinstance(name, str) else name.decode()] = shapes
    return found


def _text(shapes: Shapes) -> str:
    return " ".join(str(shape) for shape in shapes)
