"""A Keras model as an ONNX graph: from uint8 images to probabilities, features and activation maps."""

from collections.abc import Callable
from typing import Any

from biopsy.core.errors import BiopsyError, MachineError, UnsuitableModelError, reason_of
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.onnx_file import FEATURES, INPUT, MAPS, OUTPUT, input_shape

SMALLEST = 1e-12  # a probability of nothing has no logarithm


def convert(model: Any, card: Card) -> bytes:
    """Write a model as ONNX.

    Parameters
    ----------
    model
        The Keras model.
    card
        Which images it takes, and its temperature.

    Returns
    -------
    bytes
        From `images` (`input_shape`) to `probabilities` (n, classes), calibrated; where the head pools them,
        `features` (n, width), the mean over an image's tiles; where `head_of` knows the head, `activation_map`
        (n, classes, h, w), or (n, views, classes, h, w): see `evidence`.

    Raises
    ------
    MachineError
        Keras runs on another backend than TensorFlow, or the extra `pipeline` is not installed.
    SourceError
        The model's encoder cannot be joined with its head.
    UnsuitableModelError
        tf2onnx does not know one of its operations.
    """
    from biopsy.networks.backend import keras

    if keras.backend.backend() != "tensorflow":
        raise MachineError("export needs Keras on TensorFlow. Unset KERAS_BACKEND.")
    from biopsy.networks.to_onnx import OPSET, to_onnx
    from biopsy.serving.export.onnx_encoder import merge, tail_opset

    answer, taken, encoder = answering(model, card)
    opset = tail_opset(encoder) if encoder else OPSET
    try:
        made = to_onnx(answer, taken, opset)
    except BiopsyError:
        raise
    except Exception as error:  # classes of tf2onnx's own, and whatever a layer of a plug-in raises
        raise UnsuitableModelError(f"tf2onnx cannot convert {model.name}: {reason_of(error)}") from None
    if encoder:
        made = merge(encoder, made, card)
    rename(made.graph, {INPUT, OUTPUT, FEATURES, MAPS})
    made.graph.name, made.producer_name, made.producer_version = f"{card.task}-{card.protocol}", "biopsy", ""
    made.doc_string = made.graph.doc_string = NOTICE
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del made.metadata_props[:]
    return bytes(made.SerializeToString(deterministic=True))


def answering(model: Any, card: Card) -> tuple[Callable[[Any], dict[str, Any]], Any, Any]:
    """Write a model as a function in TensorFlow: from a tensor to the outputs by name, as `convert` tells them.

    Returns
    -------
    answer : callable
    taken : tf.TensorSpec
        Of its tensor: images, or the vectors of an encoder.
    encoder
        The layer that makes those vectors; None: the model has no such layer.
    """
    from biopsy.networks.answers import TURNS
    from biopsy.networks.backend import keras, tf
    from biopsy.serving.export.activation import evidence, head_of
    from biopsy.serving.export.onnx_encoder import VECTORS, find_encoder

    turns, views, together = TURNS[card.tta], card.preparation.views, len(model.inputs[0].shape) == 5
    encoder = find_encoder(model)
    outputs = {OUTPUT: model.outputs[0]}
    if any(layer.name == "head_pool" for layer in model.layers):
        outputs[FEATURES] = model.get_layer("head_pool").output
    head, pooled = head_of(model) or ([], [])
    outputs |= {f"{MAPS}_{place}": tensor for place, tensor in enumerate(pooled)}
    taken = tf.TensorSpec((None, *input_shape(card)), tf.uint8, name=INPUT)
    if encoder:  # what follows it is converted, then put behind its file
        taken = tf.TensorSpec((None, encoder.width), tf.float32, name=VECTORS)
    inner = keras.Model(encoder.output if encoder else model.inputs, outputs)
    one = inner.inputs[0].shape[1:]

    def answer(images: Any) -> dict[str, Any]:
        seen = tf.cast(images, tf.float32)
        seen = seen if encoder else _turned(seen, turns)  # an encoder's vectors are of all turns already
        given = inner(seen if seen.shape[1:] == one else tf.reshape(seen, (-1, *one)), training=False)
        seen_maps = [given.pop(f"{MAPS}_{place}") for place in range(len(pooled))]
        maps = {MAPS: _by_view(evidence(head, seen_maps, given[FEATURES]), views, together)} if head else {}
        if views > 1 and not together:
            given = {k: tf.reduce_mean(tf.reshape(v, (-1, views, v.shape[-1])), axis=1) for k, v in given.items()}
        given, maps = _mean_of_turns(given, maps, turns)
        return {**given, **maps, OUTPUT: _calibrated(given[OUTPUT], card.temperature)}

    return answer, taken, encoder


def _turned(pixels: Any, turns: int) -> Any:
    """Put images and all their turns one below the other; step by step, so that nodes have one order only."""
    from biopsy.networks.backend import keras

    steps = (lambda x: x[..., ::-1, :], lambda x: x[..., ::-1, :, :], lambda x: keras.ops.swapaxes(x, -3, -2))
    for step in steps[: turns.bit_length() - 1]:
        pixels = keras.ops.concatenate([pixels, step(pixels)], axis=0)
    return pixels


def _mean_of_turns(given: dict[str, Any], maps: dict[str, Any], turns: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Average the answers over an image's turns; keep only the maps of the image as it is."""
    from biopsy.networks.backend import tf

    if turns == 1:
        return given, maps
    given = {k: tf.reduce_mean(tf.reshape(v, (turns, -1, v.shape[-1])), axis=0) for k, v in given.items()}
    return given, {k: v[: tf.shape(v)[0] // turns] for k, v in maps.items()}


def _by_view(maps: Any, views: int, together: bool) -> Any:
    """Split maps (n * views, classes, h, w), or (n, classes, views * h, w) of tiles that are seen together, by view."""
    from biopsy.networks.backend import tf

    classes, height, width = maps.shape[1:]
    if together:
        apart = tf.reshape(maps, (-1, classes, views, height // views, width))
        return tf.transpose(apart, (0, 2, 1, 3, 4))
    return tf.reshape(maps, (-1, views, classes, height, width)) if views > 1 else maps


def _calibrated(p: Any, temperature: float) -> Any:
    """Calibrate probabilities, (n, 1) or (n, classes); all classes are returned."""
    from biopsy.networks.backend import tf

    p = tf.concat([1 - p, p], axis=1) if p.shape[1] == 1 else p
    return p if temperature == 1 else tf.nn.softmax(tf.math.log(tf.maximum(p, SMALLEST)) / temperature)


def rename(graph: Any, keep: set[str]) -> None:
    """Number all names in order of appearance: tf2onnx counts over the life of the process."""
    names = {name: name for name in keep} | {"": ""}

    def new(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    for number, node in enumerate(graph.node):
        if any(attribute.HasField("g") for attribute in node.attribute):
            return  # a loop or branch, whose own graph uses the names; no layer of ours makes one
        node.name = f"n{number}"
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for value in (*graph.initializer, *graph.value_info):
        value.name = new(value.name)
    initializers = sorted(graph.initializer, key=lambda value: int(value.name[1:]))
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(initializers)
