"""An encoder's ONNX file and what follows it in a model, as one ONNX graph."""

from typing import Any

import numpy as np

from biopsy.core.errors import SourceError, reason_of
from biopsy.networks.answers import TURNS
from biopsy.networks.backbones.encoder import OnnxEncoder
from biopsy.networks.model_file import Card
from biopsy.serving.onnx_file import INPUT, input_shape

VECTORS = "vectors"  # what the tail takes
OLDEST, NEWEST = 10, 18  # opsets that tf2onnx writes


def find_encoder(model: Any) -> OnnxEncoder | None:
    """Return the layer that holds a model's encoder; None: it has none."""
    return next((layer for layer in model.layers if isinstance(layer, OnnxEncoder)), None)


def tail_opset(encoder: OnnxEncoder) -> int:
    """Return the version of ONNX's operators (opset) to write a tail in. Raises `SourceError` as `merge`."""
    opset = _opset(encoder)
    if opset < OLDEST:
        raise _apart(opset, f"at least {OLDEST} is needed")
    return min(opset, NEWEST)


def _opset(encoder: OnnxEncoder) -> int:
    import onnx

    imports = onnx.load_from_string(encoder.content).opset_import
    return next((each.version for each in imports if each.domain in ("", "ai.onnx")), 0)


def _apart(opset: int, reason: str) -> SourceError:
    return SourceError(
        f"the model's encoder is of ONNX opset {opset} and cannot be joined with its head in one file: {reason}. Use "
        "the model through its folder, or train with an encoder of opset 17."
    )


def merge(encoder: OnnxEncoder, tail: Any, card: Card) -> Any:
    """Put images, encoder and tail together.

    Parameters
    ----------
    encoder
        The layer.
    tail : onnx.ModelProto
        From `vectors`, (n * views, width), to the model's outputs.
    card
        Which images the model takes.

    Returns
    -------
    onnx.ModelProto
        From `images`, uint8, to the tail's outputs.

    Raises
    ------
    SourceError
        The file's opset cannot be joined with the tail's.
    """
    import onnx
    from onnx import compose, version_converter

    file, opset = compose.add_prefix(onnx.load_from_string(encoder.content), "encoder/"), _opset(encoder)
    try:
        tail = version_converter.convert_version(tail, opset)
        front = _front(encoder, card, opset)
        file.ir_version = front.ir_version = tail.ir_version = max(file.ir_version, tail.ir_version)
        joined = compose.merge_models(front, file, [("pixels", file.graph.input[-1].name)])
        whole = compose.merge_models(joined, tail, [(file.graph.output[0].name, VECTORS)])
    except (ValueError, RuntimeError) as error:
        raise _apart(opset, reason_of(error).removesuffix(".")) from None
    versions = {each.domain: each.version for each in whole.opset_import}  # each part's: `--int8` wants one of a domain
    del whole.opset_import[:]
    whole.opset_import.extend(onnx.helper.make_opsetid(*each) for each in versions.items())
    return whole


def _front(encoder: OnnxEncoder, card: Card, opset: int) -> Any:
    """Make the nodes that turn the model's input into the encoder's pixels."""
    from onnx import TensorProto, helper, numpy_helper

    network, size = encoder.network, card.preparation.size
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Reshape", ["squares"], {})]
    kept: dict[str, np.ndarray] = {"squares": np.array([-1, size, size, 3], np.int64)}
    if not network.takes_uint8:
        steps += [("Cast", [], {"to": TensorProto.FLOAT}), ("Mul", ["scale"], {}), ("Add", ["offset"], {})]
        kept |= {"scale": encoder.scale, "offset": encoder.offset}
    shape: list[str | int] = ["m", size, size, 3]
    if network.channels_first:
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
        shape = ["m", 3, size, size]
    names = [INPUT, *(f"step{number}" for number in range(1, len(steps))), "pixels"]
    nodes = [
        helper.make_node(kind, [names[i], *more], [names[i + 1]], **options)
        for i, (kind, more, options) in enumerate(steps)
    ]
    if TURNS[card.tta] > 1:
        nodes[0].output[0] = "square"
        nodes[1:1] = _turns(TURNS[card.tta], "square", names[1])
        kept |= {"back": np.array([-1], np.int64), "end": np.array([np.iinfo(np.int64).min])}
        kept |= {"rows": np.array([1], np.int64), "columns": np.array([2], np.int64)}
    kind = TensorProto.UINT8 if network.takes_uint8 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "front",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", *input_shape(card)])],
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in kept.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _turns(turns: int, square: str, out: str) -> list[Any]:
    """Put squares and all their turns one below the other, step by step as `biopsy export` does."""
    from onnx import helper

    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Slice", ["back", "end", "columns", "back"], {}),
        ("Slice", ["back", "end", "rows", "back"], {}),
        ("Transpose", [], {"perm": [0, 2, 1, 3]}),
    ]
    nodes: list[Any] = []
    for number, (kind, more, options) in enumerate(steps[: turns.bit_length() - 1]):
        nodes.append(helper.make_node(kind, [square, *more], [f"turn{number}"], **options))
        nodes.append(helper.make_node("Concat", [square, f"turn{number}"], [f"turns{number}"], axis=0))
        square = f"turns{number}"
    nodes[-1].output[0] = out
    return nodes
