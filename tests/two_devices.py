"""One training on one device and on two, by the engine that KERAS_BACKEND names; prints JSON. A process has one engine.

The devices are virtual: two halves of the processor. JAX wants to be told of them by XLA_FLAGS, before it is imported.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, VALIDATION = 9, 5  # batches of 4 and 5, and of 4 and 1: some that two devices cannot share evenly


def train(devices: str) -> tuple[list[np.ndarray], list[dict[str, float]]]:
    """Train a convolution and a batch norm for two epochs: weights, history."""
    from biopsy.core.params import parse_params
    from biopsy.networks.backend import keras, seed_everything
    from biopsy.training.fit import fit
    from biopsy.training.inputs.loader import ImageStore

    settings = {"epochs": 2, "batch": 4, "optimizer": "sgd", "learning_rate": 0.1, "schedule": {"name": "constant"}}
    settings |= {"backend": keras.backend.backend(), "devices": devices}
    settings |= {"accumulate": 3} if keras.backend.backend() == "jax" else {}  # an epoch ends with a step of two
    params = parse_params({"train": settings, "augment": {"every": {"flip": True}}})
    seed_everything(0)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(x))
    targets = np.arange(TRAIN + VALIDATION) % 3 // 2
    images = np.random.default_rng(0).integers(0, 256, (len(targets), 8, 8, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        state = fit(
            model, params, "binary", ImageStore(images, True), targets, TRAIN, title="devices",
            state_file=Path(folder, "state.npz"), fingerprint="", live_dir=Path(folder, "live"),
        )  # fmt: skip
    return model.get_weights(), state.history


def compare() -> dict[str, Any]:
    """How far the weights, and the losses of validation, lie apart."""
    from biopsy.networks.backend import keras
    from biopsy.training.devices import _devices

    if keras.backend.backend() == "tensorflow":
        from biopsy.networks.backend import tf

        half = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
    (one, alone), (two, together) = train("one"), train("all")
    return {
        "devices": len(_devices()),
        "weights": max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True)),
        "loss": max(abs(a["val_loss"] - b["val_loss"]) for a, b in zip(alone, together, strict=True)),
        "learnt": abs(alone[0]["val_loss"] - alone[1]["val_loss"]),
    }


if __name__ == "__main__":
    print(json.dumps(compare()))
