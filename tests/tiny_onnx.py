"""An exported model without Keras: it takes dark images for malignant."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from biopsy.core.sections.data import Resize
from biopsy.images.preparation.record import Preparation
from biopsy.networks.model_file import NOTICE, Card, save_model
from biopsy.serving.onnx_metadata import seal
from cards import CARD
from schemes import BREAKHIS

SIZE = 32
DARK = CARD.model_copy(
    update={
        "task": "binary",
        "labels": BREAKHIS,
        "preparation": Preparation(max_pixels=10_000, resize=Resize(size=SIZE)),
    }
)


def network(size: int = SIZE, classes: int = 2, extra: bool = False) -> bytes:
    """A mean over the image, and a softmax of two numbers that its darkness gives.

    With `extra` it also gives the mean as features, and what each pixel adds to each class as the activation map.
    """
    kernel = np.zeros((3, classes), np.float32)
    kernel[:, -1] = -0.01
    bias = np.array([0] * (classes - 1) + [3.81], np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["m", "kernel"], ["d"]),
        helper.make_node("Add", ["d", "bias"], ["s"]),
        helper.make_node("Softmax", ["s"], ["probabilities"]),
    ]
    given = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])]
    if extra:
        nodes += [
            helper.make_node("Identity", ["m"], ["features"]),
            helper.make_node("MatMul", ["x", "kernel"], ["each"]),
            helper.make_node("Transpose", ["each"], ["activation_map"], perm=[0, 3, 1, 2]),
        ]
        given.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]))
        given.append(helper.make_tensor_value_info("activation_map", TensorProto.FLOAT, ["n", classes, size, size]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 3])],
        given,
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def encoder(kind: str = "uint8", size: int | str = SIZE, **change: Any) -> bytes:
    """An encoder that gives each image's mean by channel, and twice that: six numbers.

    Parameters
    ----------
    kind
        "uint8" takes (n, size, size, 3), "float" (n, 3, size, size).
    change
        `inputs`, `outputs`, `opset`: in the place of what is sound.
    """
    opset = change.get("opset", 17)
    over = [1, 2] if kind == "uint8" else [2, 3]
    shape = ["n", size, size, 3] if kind == "uint8" else ["n", 3, size, size]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "over"], ["m"], keepdims=0)
        if opset > 17
        else helper.make_node("ReduceMean", ["x"], ["m"], axes=over, keepdims=0),
        helper.make_node("Add", ["m", "m"], ["mm"]),
        helper.make_node("Concat", ["m", "mm"], ["vector"], axis=1),
    ]
    taken = helper.make_tensor_value_info("pixels", TensorProto.UINT8 if kind == "uint8" else TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 6])
    kept = [numpy_helper.from_array(np.array(over), "over")] if opset > 17 else []
    graph = helper.make_graph(nodes, "encoder", change.get("inputs", [taken]), change.get("outputs", [given]), kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def corner() -> bytes:
    """An encoder that gives the upper left pixel: three numbers that each flip changes."""
    nodes = [
        helper.make_node("Gather", ["pixels", "first"], ["row"], axis=1),
        helper.make_node("Gather", ["row", "first"], ["pixel"], axis=1),
        helper.make_node("Cast", ["pixel"], ["vector"], to=TensorProto.FLOAT),
    ]
    taken = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    given = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "corner", [taken], [given], [numpy_helper.from_array(np.array(0), "first")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def write_onnx(path: Path, card: Card = DARK, made: bytes | None = None, **facts: Any) -> Path:
    """Write it as `biopsy export` would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"card": card.model_dump(mode="json"), "notice": NOTICE, "figures": None, **facts}
    path.write_bytes(seal(network() if made is None else made, content))
    return path


def write_model(folder: Path, card: Card, channels: int = 4, activation: str = "relu", seed: int = 1) -> None:
    """Write a model with random weights large enough that the answers differ between images."""
    from biopsy.networks.backend import keras  # TensorFlow: tests of servers need none

    keras.utils.set_random_seed(seed)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    maps = keras.layers.Conv2D(channels, 3, activation=activation)(keras.layers.Rescaling(1 / 64)(pixels))
    features = keras.layers.GlobalAveragePooling2D(name="head_pool")(maps)
    classes = len(card.classes)
    output = keras.layers.Dense(*((1, "sigmoid") if classes == 2 else (classes, "softmax")))(features)
    folder.mkdir(parents=True)
    save_model(keras.Model(pixels, output), folder, card)
