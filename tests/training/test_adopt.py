"""ADOPT against a transcription of the paper, on each Keras backend, and on the problem that it was made for."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from adopt_trajectory import RATE, SETTINGS, gradients
from biopsy.networks.backend import keras
from biopsy.training.optimizers.adopt import Adopt
from conftest import ROOT

MODULES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def transcription(
    beta_1: float = 0.9,
    beta_2: float = 0.9999,
    epsilon: float = 1e-6,
    clip: bool = True,
    weight_decay: float = 0.0,
    gradient_accumulation_steps: int = 1,
) -> np.ndarray:
    """Algorithm 2 of arXiv 2411.02853v3 in double precision: the weights after each batch."""
    theta, m, v, t, waiting, steps = np.array([1.0, -2.0, 0.5, 3.0]), 0.0, 0.0, 0, [], []
    for g in gradients().astype(float):
        waiting.append(g)
        if len(waiting) == gradient_accumulation_steps:
            g, waiting = np.mean(waiting, 0), []
            if t == 0:
                v = g * g
            else:
                theta = theta - RATE * weight_decay * theta
                divided = g / np.maximum(np.sqrt(v), epsilon)
                if clip:
                    divided = np.clip(divided, -(t**0.25), t**0.25)
                m = beta_1 * m + (1 - beta_1) * divided
                theta = theta - RATE * m
                v = beta_2 * v + (1 - beta_2) * g * g
            t += 1
        steps.append(theta)
    return np.array(steps)


@pytest.mark.parametrize("backend", MODULES)
def test_the_trajectory_is_the_papers_on_each_backend(backend: str) -> None:
    if importlib.util.find_spec(MODULES[backend]) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    program = [sys.executable, str(ROOT / "tests/adopt_trajectory.py")]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["backend"] == backend
    assert told["tensorflow"] == (backend == "tensorflow")
    for name, settings in SETTINGS.items():
        expected = transcription(**settings)
        assert np.ptp(expected[:, 1]) > 0.2  # it moves
        np.testing.assert_allclose(told["found"][name], expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_adopt_solves_the_toy_problem_that_adam_gets_wrong() -> None:
    """See benchmarks/adopt.py: the solution is -1, and Adam with a small beta_2 ends at +1."""
    toy = runpy.run_path(str(ROOT / "benchmarks/adopt.py"))["toy"]
    adam = toy(partial(keras.optimizers.Adam, beta_2=0.1), steps=20_000, seeds=32)[-1]
    adopt = toy(partial(Adopt, beta_2=0.1, clip=False), steps=20_000, seeds=32)[-1]
    assert adam.min() > 0.6
    assert np.median(adam) > 0.95
    assert adopt.max() < -0.8
    assert np.median(adopt) < -0.95


def test_a_config_makes_an_equal_optimizer() -> None:
    settings = {
        "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-4, "clip": False, "weight_decay": 0.1, "name": "mine",
        "global_clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9, "gradient_accumulation_steps": 3,
    }  # fmt: skip
    one = Adopt(0.5, **settings)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    assert type(other) is Adopt
    assert other.get_config() == one.get_config()
    assert settings.items() <= other.get_config().items()


@pytest.mark.parametrize("wrong", [{"beta_1": 1.0}, {"beta_2": -0.1}, {"epsilon": 0.0}])
def test_a_number_out_of_range_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Adopt(**wrong)
