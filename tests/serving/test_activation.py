"""The activation map of an exported file: what autodiff gives, computed without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopsy.networks.backend import keras, tf
from biopsy.networks.features import pool_maps
from biopsy.networks.model_file import save_model
from biopsy.serving.export.activation import evidence, head_of
from biopsy.serving.export.run import export_model
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import FEATURES, MAPS, OUTPUT
from tiny_onnx import DARK, SIZE

L = keras.layers
HEADS: dict[str, Callable[[], list[Any]]] = {
    "linear": lambda: [L.Dropout(0.5), L.Dense(3, "softmax")],
    "binary": lambda: [L.Dense(1, "sigmoid")],
    "probe": lambda: [L.BatchNormalization(center=False, scale=False), L.Dense(3, "softmax")],
    "dense": lambda: [L.UnitNormalization(), L.Dense(6, "relu"), L.BatchNormalization(), L.Dense(3, "softmax")],
}


def network(head: list[Any], layers: int = 1) -> Any:
    """Make a network whose head sees the mean of its last layer, or of its last two."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    scaled = L.Rescaling(1 / 64)(pixels)
    maps = [L.Conv2D(5, 5, strides=4, activation="relu")(scaled), L.Conv2D(4, 5, strides=2)(scaled)]  # 7x7, 14x14
    x = pool_maps(maps[:layers], "mean")
    for layer in head:
        x = layer(x)
        if isinstance(layer, L.BatchNormalization):
            layer.moving_variance.assign(np.linspace(0.5, 2, layer.moving_variance.shape[0]))
            if layer.scale:
                layer.gamma.assign(np.linspace(-1, 2, layer.gamma.shape[0]))
    return keras.Model(pixels, x)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", HEADS)
def test_the_map_is_the_slope_of_each_logit_times_the_feature_map(kind: str, layers: int) -> None:
    model = network(HEADS[kind](), layers)
    head, tensors = head_of(model) or ([], [])
    assert len(tensors) == layers
    images = tf.convert_to_tensor(np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)), tf.float32)
    *maps, pooled = keras.Model(model.inputs, [*tensors, model.get_layer("head_pool").output])(images)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        x = tf.concat([tf.reduce_mean(one, axis=(1, 2)) for one in maps], axis=1)
        for layer in head[:-1]:
            x = layer(x, training=False)
        logits = tf.matmul(x, head[-1].kernel) + head[-1].bias
        logits = tf.concat([-logits, logits], 1) if logits.shape[1] == 1 else logits
    wanted = np.zeros(1)
    for one in maps:
        own = (tape.batch_jacobian(logits, one).numpy() * one.numpy()[:, None]).sum(-1) * np.prod(one.shape[1:3])
        factor = maps[-1].shape[1] // one.shape[1]
        wanted = wanted + own.repeat(factor, axis=2).repeat(factor, axis=3)
    given = evidence(head, maps, pooled).numpy()
    assert given.shape == (2, logits.shape[1], *maps[-1].shape[1:3])
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_a_head_whose_slope_is_not_known_has_no_map() -> None:
    assert head_of(network([L.Dense(4, "tanh"), L.Dense(3, "softmax")])) is None
    assert head_of(network([L.Dense(4), L.LayerNormalization(), L.Dense(3, "softmax")])) is None
    pixels = keras.Input((SIZE, SIZE, 3))
    most = L.GlobalMaxPooling2D(name="head_pool")(L.Conv2D(2, 3)(pixels))
    assert head_of(keras.Model(pixels, L.Dense(1, "sigmoid")(most))) is None
    uneven = pool_maps([L.Conv2D(2, 3)(pixels), L.Conv2D(2, 4)(pixels)], "mean")  # 30x30 and 29x29
    assert head_of(keras.Model(pixels, L.Dense(1, "sigmoid")(uneven))) is None


@pytest.mark.parametrize("layers", [1, 2])
def test_a_file_gives_features_and_maps_beside_the_probabilities(tmp_path: Path, layers: int) -> None:
    (tmp_path / "m").mkdir()
    save_model(network([L.Dense(1, "sigmoid")], layers), tmp_path / "m", DARK)
    path, _ = export_model(tmp_path / "m", root=tmp_path)
    model = Model(path)
    assert model.gives == {FEATURES, MAPS}
    views = np.random.default_rng(0).integers(0, 256, (3, 1, SIZE, SIZE, 3), np.uint8)
    given, features, maps = model.ask(views, OUTPUT, FEATURES, MAPS)
    kernel, bias = Model(tmp_path / "m").network.layers[-1].get_weights()
    log_odds = np.log(given[:, 1] / given[:, 0])
    np.testing.assert_allclose(features @ kernel[:, 0] + bias, log_odds, atol=1e-4)
    assert maps.shape == (3, 1, 2, 7 * layers, 7 * layers)
    np.testing.assert_allclose(maps[:, 0, 1].mean((1, 2)) + bias, log_odds, atol=1e-4)
    np.testing.assert_allclose(maps[:, :, 0], -maps[:, :, 1])
