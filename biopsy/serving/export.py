"""`biopsy export`: one ONNX file of a trained model, checked against Keras on real images before it is kept."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError, MachineError, SourceError, warn
from biopsy.core.files import atomic_file
from biopsy.images.preparation.record import images_of
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.ensemble import Ensemble, join, open_models
from biopsy.serving.extras import extra
from biopsy.serving.learnt import packed
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import INPUT, OUTPUT, Network, input_shape, open_file
from biopsy.serving.sealed import seal
from biopsy.serving.slides.scale import trained_scale

OPSET = 17
LARGEST_DIFFERENCE = 1e-4  # of a probability, between Keras and ONNX Runtime
IMAGES = 32  # on which they are compared
SMALLEST = 1e-12  # a probability of nothing has no logarithm


def export_model(
    models: Path | Sequence[Path], out: Path | None = None, root: Path = Path(), figures: Any = None
) -> tuple[Path, float]:
    """Write a model, or several that answer together, as one ONNX file; equal models give equal bytes.

    Parameters
    ----------
    models
        A folder that holds `model.keras` and `model.json`, or the folders of folds that do; or several folders, whose
        models then answer together.
    out
        The file; None: `exports/<name of the folder>.onnx`.
    root
        The project, whose prepared images the two are compared on.
    figures
        The model's test figures, which go into the metadata; None: not known. Of an ensemble there are none.

    Returns
    -------
    path : Path
    difference : float
        The largest between a probability of Keras and of ONNX Runtime, at most 1e-4.

    Raises
    ------
    SourceError
        The model cannot be loaded, needs more than images, or gives other probabilities as ONNX.
    """
    named = [models] if isinstance(models, Path) else list(models)
    folder = named[0]
    out = out or root / "exports" / f"{folder.resolve().name}.onnx"
    if out.suffix.lower() != ".onnx":
        raise SourceError(f"--out must end in .onnx. Got {out}.")
    if folder.suffix.lower() == ".onnx":
        raise SourceError(f"{folder} is exported already. Name a model's folder, such as models/binary-case.")
    model = open_models(named)
    card = model.card
    if card.terms:
        warn(card.terms)
    images, what = _images(root, card)
    network = _network(model)
    facts = {
        "card": card.model_dump(mode="json"),
        "classes": card.classes,
        "preparation": card.preparation.model_dump(mode="json"),
        "threshold": card.threshold,
        "temperature": card.temperature,
        "protocol": card.protocol,
        "figures": None if card.members else figures,
        "learnt_from": packed(model.learnt),
        "notice": NOTICE,
    }
    if scale := trained_scale(folder, card):
        facts["scale"] = asdict(scale)
    with atomic_file(out) as temporary:
        temporary.write_bytes(seal(network, facts))
        given = Network(out, *open_file(temporary))(images)
        difference = float(np.abs(given - model.probabilities(images)).max())
        if not difference <= LARGEST_DIFFERENCE:  # NaN, too
            raise SourceError(
                f"{folder} gives other probabilities as ONNX (by up to {difference:.2g}; {LARGEST_DIFFERENCE:g} is "
                "allowed), so it was not exported."
            )
        # Rounded up: the last digits differ between processors, and the file should not.
        limit = next(step for step in (1e-6, 1e-5, LARGEST_DIFFERENCE) if difference <= step)
        parity = {"probabilities_differ_by_at_most": limit, "images": len(images), "of": what}
        temporary.write_bytes(seal(network, {**facts, "parity": parity}))
    return out, difference


def _images(root: Path, card: Card) -> tuple[NDArray[np.uint8], str]:
    """Return images as the network sees them, (n, views, size, size, 3), and what they are."""
    views, size = card.preparation.views, card.preparation.size
    try:
        tree, preparation = images_of(root, card.protocol)
        files = sorted(tree.rglob("*.png")) if preparation == card.preparation else []
    except BiopsyError:  # no such tree
        files = []
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(IMAGES, len(files))).astype(int))]
    found = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in chosen]
    whole = [
        image.reshape(views, size, size, 3)
        for image in found
        if image is not None and image.size == views * size * size * 3
    ]
    if whole:
        return np.stack(whole), "prepared images"
    warn(
        "there are no prepared images of this model's kind here, so ONNX and Keras are compared on drawn ones, which "
        "proves less. Run `dvc repro` or `dvc pull data/resized` first."
    )
    rng = np.random.default_rng(0)
    shades = rng.uniform(0, 255, (IMAGES, views, 1, 1, 3)) + rng.normal(0, 30, (IMAGES, views, size, size, 3))
    return shades.clip(0, 255).astype(np.uint8), "drawn images"


def _network(model: Model | Ensemble) -> bytes:
    """Convert a model, or join what its members are converted to."""
    if isinstance(model, Model):
        return _convert(model.network, model.card)
    made = join([_convert(member.network, member.card) for member in model.models])
    _rename(made.graph, {INPUT, OUTPUT})
    made.graph.name, made.graph.doc_string = f"{model.card.task}-{model.card.protocol}", NOTICE
    return bytes(made.SerializeToString(deterministic=True))


def _convert(model: Any, card: Card) -> bytes:
    """From uint8 images to calibrated probabilities of all classes, and the features where the head pools them."""
    from biopsy.networks.backend import keras, tf

    if keras.backend.backend() != "tensorflow":
        raise MachineError("export needs Keras on TensorFlow. Unset KERAS_BACKEND.")
    with extra("export"):
        import tf2onnx

    from biopsy.networks.answers import TURNS
    from biopsy.serving.merged import VECTORS, find_encoder, merge, tail_opset

    turns, views, together = TURNS[card.tta], card.preparation.views, len(model.inputs[0].shape) == 5
    encoder = find_encoder(model)
    outputs = {OUTPUT: model.outputs[0]}
    if any(layer.name == "head_pool" for layer in model.layers):
        outputs["features"] = model.get_layer("head_pool").output
    taken = tf.TensorSpec((None, *input_shape(card)), tf.uint8, name=INPUT)
    if encoder:  # what follows it is converted, then put behind its file
        taken = tf.TensorSpec((None, encoder.width), tf.float32, name=VECTORS)
    inner = keras.Model(encoder.output if encoder else model.inputs, outputs)
    one = inner.inputs[0].shape[1:]

    def answer(images: Any) -> dict[str, Any]:
        seen = tf.cast(images, tf.float32)
        seen = seen if encoder else _turned(seen, turns)  # an encoder's vectors are of all turns already
        given = inner(seen if seen.shape[1:] == one else tf.reshape(seen, (-1, *one)), training=False)
        if views > 1 and not together:
            given = {k: tf.reduce_mean(tf.reshape(v, (-1, views, v.shape[-1])), axis=1) for k, v in given.items()}
        if turns > 1:
            given = {k: tf.reduce_mean(tf.reshape(v, (turns, -1, v.shape[-1])), axis=0) for k, v in given.items()}
        p = given[OUTPUT]
        p = tf.concat([1 - p, p], axis=1) if p.shape[1] == 1 else p
        if card.temperature != 1:
            p = tf.nn.softmax(tf.math.log(tf.maximum(p, SMALLEST)) / card.temperature)
        return {**given, OUTPUT: p}

    opset = tail_opset(encoder) if encoder else OPSET
    made, _ = tf2onnx.convert.from_function(tf.function(answer, autograph=False), [taken], opset=opset)
    if encoder:
        made = merge(encoder, made, card)
    _rename(made.graph, {INPUT, OUTPUT, "features"})
    made.graph.name, made.producer_name, made.producer_version = f"{card.task}-{card.protocol}", "biopsy", ""
    made.doc_string = made.graph.doc_string = NOTICE
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del made.metadata_props[:]
    return bytes(made.SerializeToString(deterministic=True))


def _turned(pixels: Any, turns: int) -> Any:
    """Put images and all their turns one below the other; step by step, so that nodes have one order only."""
    from biopsy.networks.backend import keras

    steps = (lambda x: x[..., ::-1, :], lambda x: x[..., ::-1, :, :], lambda x: keras.ops.swapaxes(x, -3, -2))
    for step in steps[: turns.bit_length() - 1]:
        pixels = keras.ops.concatenate([pixels, step(pixels)], axis=0)
    return pixels


def _rename(graph: Any, keep: set[str]) -> None:
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
