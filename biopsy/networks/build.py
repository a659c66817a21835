"""Put a network together: pixels, backbone, head; flat and from serialisable layers only."""

import math
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from biopsy.core.errors import ParamsError, SourceError, reason_of
from biopsy.core.files import sha256
from biopsy.core.sections.model import Model
from biopsy.networks.backbones.registry import Backbone, find
from biopsy.networks.backend import keras
from biopsy.networks.features import feature_maps, pool_maps, stack_tiles

EXTRA_UNITS = 16  # of the dense layer on the extra inputs
SECONDS = 60.0  # without a byte, after which a download is given up


def check_model(model: Model, size: int) -> Backbone:
    """Check the parameters before any work.

    Parameters
    ----------
    model
        The section `model`.
    size
        Image side in pixels (`resize.size`).

    Raises
    ------
    ParamsError
        Unknown backbone, image too small for it, or weights that it does not have.
    SourceError
        A weights file that is missing or is not the one that `model.weights_sha256` names.
    """
    backbone = find(model.backbone)
    if size < backbone.min_size:
        raise ParamsError(f"resize.size must be at least {backbone.min_size} for {backbone.name}. Got {size}.")
    if model.weights == "imagenet" and not backbone.has_imagenet:
        raise ParamsError(
            f"model.weights is 'imagenet', which {backbone.name} does not have. Set it to none or a path."
        )
    file = model.weights_file
    if file and not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        may = "an .onnx file" if backbone.is_file else "none, imagenet or a weights file"
        raise SourceError(f"model.weights: {model.weights} {what}. Set it to {may}.")
    if file and model.weights_sha256 and (found := sha256(file)) != model.weights_sha256:
        raise SourceError(
            f"model.weights: {model.weights} has SHA-256 {found}, model.weights_sha256 says {model.weights_sha256}. "
            "Get the right file, or set model.weights_sha256 to null."
        )
    return backbone


def build_model(model: Model, size: int, classes: int, *, extra: int = 0, tiles: int = 1) -> Any:
    """Build the network for images of one size.

    Parameters
    ----------
    model
        The section `model`: backbone, weights, what trains, head.
    size
        Image side in pixels.
    classes
        2 gives one sigmoid output (probability of class 1), more give a softmax.
    extra
        How many numbers an image has besides its pixels (`biopsy.tables.slides.extra_inputs.Encoder.width`); 0: none.
    tiles
        How many tiles of an image the network takes together; the head sees the mean of their features. 1: one square.

    Returns
    -------
    keras.Model
        Input (n, size, size, 3), or (n, tiles, size, size, 3), values 0 to 255, or with `extra` a dict of these
        `pixels` and of `extra`, (n, extra) float32; output (n, 1) or (n, classes), float32.

    Raises
    ------
    ParamsError, SourceError
        As `check_model`; besides, a layer that the backbone does not have, or weights that cannot be downloaded or do
        not fit.
    """
    backbone = check_model(model, size)
    square = (size, size, 3)
    pixels = keras.Input(square if tiles == 1 else (tiles, *square), name="pixels")
    squares = pixels if tiles == 1 else keras.ops.reshape(pixels, (-1, *square))
    last = _with_weights(backbone, squares, model)
    maps = feature_maps(keras.Model(squares, last), last, model.features)
    _freeze(keras.Model(squares, maps), model)
    # The tiles' maps one below the other: the head's pool takes their mean, and its batch norm sees all of them.
    maps = [stack_tiles(feature_map, tiles) for feature_map in maps]
    name = f"{backbone.name}_{classes}"
    if not extra:
        return keras.Model(pixels, _head(maps, model, classes), name=name)
    facts = keras.Input((extra,), name="extra")
    return keras.Model({"pixels": pixels, "extra": facts}, _head(maps, model, classes, facts), name=name)


def _with_weights(backbone: Backbone, pixels: Any, model: Model) -> Any:
    """Build the backbone and say in words why its weights cannot be loaded, where they cannot."""
    weights, more = str(model.weights_file or model.weights), {"encoder": model.encoder} if backbone.is_file else {}
    try:
        with warnings.catch_warnings():
            # Weights of 224 px are fine for any size; a layer that is not in the file must not silently stay random.
            warnings.filterwarnings("ignore", message=".*input_shape.*undefined or non-square")
            warnings.filterwarnings("error", message=".*freshly-initialized weights")
            with _giving_up():
                return backbone.build(pixels, None if weights == "none" else weights, **more)
    except TimeoutError:
        raise SourceError(
            f"model.weights: the download of '{weights}' was given up, as nothing came for {SECONDS:g} seconds. Run "
            "`dvc repro` again, or set model.weights to the path of a weights file."
        ) from None
    except (ValueError, KeyError, OSError, UserWarning) as error:
        if weights == "none":
            raise
        raise SourceError(f"model.weights: {weights} does not fit {backbone.name}: {reason_of(error, 300)}") from None
    except Exception as error:  # keras.utils.get_file raises a bare Exception when a download fails
        if "URL fetch failure" not in str(error):
            raise
        url = str(error).split("URL fetch failure on ")[-1].split(": ")[0]
        raise SourceError(
            f"model.weights: {url} cannot be downloaded. Download {url.rsplit('/', 1)[-1]} where there is a network, "
            f"place it in {os.environ.get('KERAS_HOME', '~/.keras')}/models, or set model.weights to its path."
        ) from None


@contextmanager
def _giving_up() -> Iterator[None]:
    """Set a timeout for connections: Keras's own download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _freeze(backbone: Any, model: Model) -> None:
    """Freeze the backbone ('none'), all but its last layers (a number), or nothing ('all'); batch norms where asked.

    A frozen batch norm uses its moving averages and does not change them. A frozen part has no dropout, so its output
    depends only on the image.
    """
    layers, batch_norm = backbone.layers, keras.layers.BatchNormalization
    with_weights = [number for number, layer in enumerate(layers) if layer.weights]
    last = {"none": 0, "all": len(with_weights)}.get(str(model.trainable), model.trainable)
    if int(last) > len(with_weights):
        raise ParamsError(
            f"model.trainable must be at most {len(with_weights)}, the backbone's layers with weights. Got {last}."
        )
    first = len(layers) if last == 0 else 0 if model.trainable == "all" else with_weights[-int(last)]
    for number, layer in enumerate(layers):
        if number < first or (model.freeze_batch_norm and isinstance(layer, batch_norm)):
            layer.trainable = False
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0


def _head(maps: list[Any], model: Model, classes: int, extra: Any = None) -> Any:
    """Build the head, from feature maps to probabilities: the parts of the report's head, each optional."""
    head, layers = model.head, keras.layers
    regulariser = keras.regularizers.L2(head.l2) if head.l2 else None
    if head.feature_norm:
        x = layers.BatchNormalization(name="head_feature_bn")(maps[0])
        x = layers.ReLU(name="head_feature_relu")(x)
        maps = [layers.Dropout(head.dropout, name="head_feature_dropout")(x)]
    x = pool_maps(maps, model.features.pool)
    if head.kind == "probe":  # its weights are computed, not trained
        x = x if extra is None else layers.Concatenate(name="extra_join")([x, extra])
        centred = layers.BatchNormalization(
            center=False, scale=False, epsilon=1e-7, trainable=False, dtype="float32", name="probe_centre"
        )  # subtracts the training images' mean: the sums of the output layer stay small, so float32 rounds less
        return _probabilities(centred(x), classes)
    if head.unit_norm:
        x = layers.UnitNormalization(name="head_unit_norm")(x)
    if extra is not None:
        x = _join(x, extra)
    if head.units:
        x = layers.Dense(head.units, activation="relu", kernel_regularizer=regulariser, name="head_dense")(x)
    if head.batch_norm:
        x = layers.BatchNormalization(name="head_bn")(x)
    return _probabilities(layers.Dropout(head.dropout, name="head_dropout")(x), classes, regulariser)


def _probabilities(features: Any, classes: int, regulariser: Any = None) -> Any:
    """Put the output layer on: one sigmoid for two classes, else a softmax."""
    outputs, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    return keras.layers.Dense(
        outputs, activation=activation, kernel_regularizer=regulariser, dtype="float32", name="probabilities"
    )(features)


def _join(features: Any, extra: Any) -> Any:
    """Late fusion: pooled features beside a small dense layer on the extra inputs.

    Its kernel starts at zero. What no training row shows (a category that only a test slide has) never gets a gradient,
    so it stays without effect, where a random start would let it turn the answer.
    """
    layer = keras.layers.Dense(EXTRA_UNITS, activation="tanh", kernel_initializer="zeros", name="extra_dense")
    return keras.layers.Concatenate(name="extra_join")([features, layer(extra)])


def count_weights(model: Any) -> tuple[int, int]:
    """Return how many numbers the model holds, and how many of them train."""
    return sum(math.prod(w.shape) for w in model.weights), sum(math.prod(w.shape) for w in model.trainable_weights)
