"""Batch norm in one operation gives what Keras gives in a dozen."""

import os
from typing import Any

import numpy as np
import pytest

from biopsy.networks.backend import keras, seed_everything, tf
from biopsy.training.fused_norm import fuse_batch_norms

PIXELS = np.random.default_rng(0).normal(3, 2, (6, 8, 8, 3)).astype(np.float32)
TARGETS = np.array([0, 1] * 3, np.float32)[:, None]
PRECISIONS = {"float32": 1e-5, "mixed_bfloat16": 0.02}  # and how far rounding may go
if "ONEDNN_MAX_CPU_ISA" in os.environ:  # its convolutions cannot then compute in bfloat16
    del PRECISIONS["mixed_bfloat16"]


def network(dtype: str = "float32", **norm: Any) -> Any:
    """Build a convolution, its batch norm, and a head with another."""
    seed_everything(0)
    policy = keras.DTypePolicy(dtype)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False, dtype=policy)(pixels)
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy, name="norm", **norm)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.BatchNormalization(name="head_norm")(x)
    return keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(x))


def trained(model: Any) -> list[np.ndarray]:
    """Take three steps; return all weights, moving figures included."""
    model.compile("sgd", "binary_crossentropy", run_eagerly=False)
    for _ in range(3):
        model.train_on_batch(PIXELS, TARGETS)
    return [np.asarray(variable) for variable in model.variables[: len(model.weights)]]


def operations(model: Any) -> list[str]:
    """List the types of the operations of a training call."""
    call = tf.function(lambda x: model(x, training=True)).get_concrete_function(tf.constant(PIXELS))
    return [operation.type for operation in call.graph.get_operations()]


@pytest.mark.parametrize(("dtype", "off"), PRECISIONS.items())
@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False}])
def test_weights_and_moving_figures_are_those_of_keras(dtype: str, off: float, norm: dict[str, bool]) -> None:
    usual, fused = network(dtype, **norm), network(dtype, **norm)
    fuse_batch_norms(fused)
    assert "FusedBatchNormV3" in operations(fused)
    assert "FusedBatchNormV3" not in operations(usual)
    before = [np.asarray(variable) for variable in usual.weights]
    for start, one, other in zip(before, trained(usual), trained(fused), strict=True):
        np.testing.assert_allclose(other, one, atol=off, rtol=off)
        assert not np.array_equal(one, start)
    np.testing.assert_allclose(fused.predict(PIXELS, verbose=0), usual.predict(PIXELS, verbose=0), atol=off)
    assert fused.get_config() == usual.get_config()


@pytest.mark.parametrize("norm", [{"trainable": False}, {"synchronized": True}, {"axis": 1}])
def test_frozen_layers_and_shared_figures_stay_as_keras_has_them(norm: dict[str, Any]) -> None:
    model = network(**norm)
    fuse_batch_norms(model)
    assert "FusedBatchNormV3" not in operations(model)
