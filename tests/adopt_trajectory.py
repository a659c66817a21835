"""ADOPT step by step, on the Keras backend that KERAS_BACKEND names: prints the weights after each step as JSON.

A program of its own, because a process has one backend. It must not need TensorFlow on the others.
"""

import json
import sys

import numpy as np

from biopsy.networks.backend import keras
from biopsy.training.optimizers.adopt import Adopt

SETTINGS = {
    "plain": {},
    "unclipped": {"clip": False},
    "decayed": {"weight_decay": 0.1},
    "small beta": {"beta_1": 0.5, "beta_2": 0.1, "epsilon": 0.5},
    "accumulated": {"gradient_accumulation_steps": 2, "weight_decay": 0.1},
}
RATE = 0.3


def gradients() -> np.ndarray:
    """(steps, 4), float32, over several orders of magnitude; one of them stays 0."""
    rng = np.random.default_rng(0)
    return (rng.normal(0.3, 1, (16, 4)) * [1e-3, 1, 100, 0]).astype(np.float32)


def trajectory(settings: dict) -> list[list[float]]:
    variable = keras.Variable(np.array([1.0, -2.0, 0.5, 3.0], np.float32))
    optimizer = Adopt(learning_rate=RATE, **settings)
    optimizer.build([variable])
    steps = []
    for gradient in gradients():
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        steps.append(keras.ops.convert_to_numpy(variable).tolist())
    return steps


if __name__ == "__main__":
    found = {name: trajectory(settings) for name, settings in SETTINGS.items()}
    json.dump(
        {"backend": keras.backend.backend(), "tensorflow": "tensorflow" in sys.modules, "found": found}, sys.stdout
    )
