"""PyTorch checkpoints become Keras weights files; nothing in a checkpoint is ever executed.

Names and shapes are torchvision's, under any prefix: a CERBERUS checkpoint keeps its encoder below `desc.backbone.`,
beside its decoders; a classifier trained on several GPUs keeps its own below `module.`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.errors import ParamsError, SourceError, nearest, some
from biopsy.core.files import atomic_file, sha256
from biopsy.networks.backbones.registry import find
from biopsy.networks.backbones.torchvision import EPSILON
from biopsy.networks.backend import keras
from biopsy.networks.checkpoint import read_checkpoint

Arrays = dict[str, np.ndarray]
SIZE = 64  # pixels; weights of convolutions do not depend on it


def _as_it_is(layer: str) -> str:
    """Return the module of a layer of `backbones.torchvision`, whose layers have the names of torchvision's modules."""
    return layer


def _of_densenet(layer: str) -> str:
    """Name torchvision's module for a layer of Keras's DenseNet121."""
    kinds = {"bn": "norm", "conv": "conv"}
    if found := re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(bn|conv)", layer):
        stage, block, number, kind = found.groups()
        number = str(int(number) + (kind == "bn"))  # Keras counts a block's norms from 0, torchvision from 1
        return f"features.denseblock{int(stage) - 1}.denselayer{block}.{kinds[kind]}{number}"
    if found := re.fullmatch(r"pool(\d)_(bn|conv)", layer):
        return f"features.transition{int(found[1]) - 1}.{kinds[found[2]]}"
    return {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0", "bn": "features.norm5"}[layer]


def _densenet() -> Any:
    """Build Keras's whole DenseNet121, as in weights files; the registry's backbone is cut before the last norm."""
    return keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))


@dataclass(frozen=True)
class Architecture:
    """A network of torchvision: the backbone that takes its weights, and the module of each layer."""

    backbone: str
    module: Callable[[str], str] = _as_it_is
    network: Callable[[], Any] | None = None

    def draw(self) -> Any:
        """Build the network whose weights a weights file of this backbone holds."""
        if self.network:
            return self.network()
        pixels = keras.Input((SIZE, SIZE, 3))
        return keras.Model(pixels, find(self.backbone).build(pixels, None))


ARCHITECTURES = {
    "resnet34": Architecture("resnet34"),
    "resnet50": Architecture("torch_resnet50"),
    "densenet121": Architecture("densenet121", _of_densenet, _densenet),
    "mobilenet_v2": Architecture("torch_mobilenetv2"),
}


def convert_weights(checkpoint: Path, out: Path, architecture: str) -> str:
    """Write the weights of a PyTorch checkpoint as Keras weights.

    Parameters
    ----------
    checkpoint
        A state dict of PyTorch, also somewhere within a dictionary, or a `.safetensors` file.
    out
        Where to write; ends in `.weights.h5`.
    architecture
        A name of `ARCHITECTURES`.

    Returns
    -------
    str
        What was taken and left out, and the parameters that use the file.

    Raises
    ------
    ParamsError, SourceError, MachineError
        Unknown architecture or ending; a checkpoint that is broken, would execute code or is of another network;
        PyTorch or safetensors is not installed.
    """
    if architecture not in ARCHITECTURES:
        raise ParamsError(
            f"--architecture must be one of {', '.join(ARCHITECTURES)}. Got '{architecture}'."
            f"{nearest(architecture, ARCHITECTURES)}"
        )
    if not out.name.endswith(".weights.h5"):
        raise ParamsError(f"The output must end in .weights.h5, by which Keras knows its format. Got {out}.")
    chosen, arrays = ARCHITECTURES[architecture], _modern_names(read_checkpoint(checkpoint))
    keras.backend.clear_session()  # the file holds layers' names: counted anew, equal checkpoints give equal bytes
    network = chosen.draw()
    needed = [name for layer in network.layers for name in _tensors(layer, chosen)]
    prefix = _prefix(arrays, needed, f"{checkpoint} is not of {architecture}")
    for layer in network.layers:
        names = [prefix + name for name in _tensors(layer, chosen)]
        values = _in_keras(layer, [arrays[name] for name in names])
        for name, value, weight in zip(names, values, layer.weights, strict=True):
            if value.shape != tuple(weight.shape):
                raise SourceError(
                    f"{checkpoint} is not of {architecture}: {name} has, in Keras's order, shape {value.shape}, and "
                    f"{architecture} needs {tuple(weight.shape)}."
                )
        layer.set_weights(values)
    with atomic_file(out) as temporary:
        ending = temporary.with_name(f"{temporary.stem}.weights.h5")  # by which Keras knows the format
        try:
            network.save_weights(ending)
            ending.replace(temporary)
        finally:
            ending.unlink(missing_ok=True)
    left = [n for n in arrays if n not in {prefix + n for n in needed} and not n.endswith("num_batches_tracked")]
    return (
        f"{out}: {len(needed)} tensors of {checkpoint}"
        + (f", below '{prefix}'" if prefix else "")
        + (f"; left out {len(left)}: {some(left, 3)}" if left else "; nothing left out")
        + f"\nUse it: -S model.backbone={chosen.backbone} -S model.weights={out} -S model.weights_sha256={sha256(out)}"
    )


def _tensors(layer: Any, architecture: Architecture) -> Iterator[str]:
    """Yield torchvision's names of a layer's weights, in Keras's order."""
    if layer.weights:
        batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        for part in ("weight", "bias", "running_mean", "running_var") if batch_norm else ("weight",):
            yield f"{architecture.module(layer.name)}.{part}"


def _in_keras(layer: Any, values: list[np.ndarray]) -> list[np.ndarray]:
    """Reorder kernels (OIHW to HWIO), and fold PyTorch's epsilon into the variance where Keras's layer has another."""
    if isinstance(layer, keras.layers.BatchNormalization):
        *others, variance = values
        return [*others, np.maximum(variance + np.float32(EPSILON - layer.epsilon), 0)]
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return [v.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)) if v.ndim == 4 else v for v in values]


def _modern_names(arrays: Arrays) -> Arrays:
    """Rename `denselayer1.norm.1` of torchvision's oldest DenseNet files to `denselayer1.norm1`."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
    return {old.sub(r"\1\2", name): value for name, value in arrays.items()}


def _prefix(arrays: Arrays, needed: list[str], what: str) -> str:
    """Find the prefix of most of the needed tensors. Raises `SourceError` where one is missing."""
    prefixes = {name.removesuffix(needed[0]): None for name in arrays if name.endswith(needed[0])}
    best = max(prefixes, key=lambda prefix: sum(prefix + name in arrays for name in needed), default="")
    if missing := [best + name for name in needed if best + name not in arrays]:
        raise SourceError(f"{what}: of {len(needed)} tensors it lacks {len(missing)}, the first is {missing[0]}.")
    return best
