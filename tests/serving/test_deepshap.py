"""DeepSHAP: known answers, a sum that is checked, and what is said where it cannot be had."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from coloured import colours

from biopsy.core.errors import MachineError, ParamsError
from biopsy.networks.backend import keras
from biopsy.networks.model_file import save_model
from biopsy.serving.explain import deepshap as module
from biopsy.serving.explain.deepshap import deepshap
from biopsy.serving.explain.files import explain_files
from biopsy.serving.explain.image import check_method, explain
from biopsy.serving.model import Model
from tiny_onnx import DARK, SIZE, write_onnx

WEIGHTS = np.array([0.001, -0.0005, 0.0]) / SIZE**2  # of each colour of a pixel


def linear() -> Any:
    """A network whose answer is a sum over pixels, so that what each adds is known."""
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    given = keras.layers.Dense(1, use_bias=False, name="probabilities")(keras.layers.Flatten()(pixels))
    model = keras.Model(pixels, given)
    model.set_weights([np.tile(WEIGHTS, SIZE**2)[:, None]])
    return model


class Estimate:
    """Stands for GradientExplainer: right for a sum over pixels, or short by a share of it."""

    kept = 1.0

    def __init__(self, _: Any, background: np.ndarray) -> None:
        self.background = background

    def shap_values(self, asked: np.ndarray, **_: object) -> np.ndarray:
        return self.kept * ((asked - self.background.mean(0)) * WEIGHTS)[..., None]


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A SHAP whose DeepExplainer fails, and leaves TensorFlow's record of gradients changed, as the real one does."""
    execute = import_module("tensorflow.python.eager.execute")

    def fails(*_: object) -> None:
        execute.record_gradient = None
        raise LookupError("gradient registry has no entry for: shap_Einsum")

    handlers = SimpleNamespace(op_handlers={}, nonlinearity_1d=lambda _: None, linearity_1d=lambda _: None)
    monkeypatch.setitem(sys.modules, "shap", SimpleNamespace(DeepExplainer=fails, GradientExplainer=Estimate))
    monkeypatch.setitem(sys.modules, "shap.explainers._deep.deep_tf", handlers)
    return execute


def test_an_estimate_stands_in_where_the_network_cannot_be_followed_and_says_whether_it_adds_up(
    execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, rng, network = execute.record_gradient, np.random.default_rng(0), linear()
    views, background = (rng.integers(0, 256, (n, 2, SIZE, SIZE, 3), np.uint8) for n in (1, 4))
    found = deepshap(network, views[0], 1, background)
    assert execute.record_gradient is usual
    known = background[np.arange(4), [0, 1, 0, 1]].mean(0)  # a view of each image, in turn
    wanted = ((views[0] - known) @ WEIGHTS) / 2  # the answer is the mean of those about the views
    np.testing.assert_allclose(found.values, wanted, atol=1e-9)
    assert found.missing == pytest.approx(0, abs=1e-6)
    assert found.words.startswith("GradientExplainer against 4 training images adds up: ")
    np.testing.assert_allclose(deepshap(network, views[0], 0, background).values, -found.values)
    monkeypatch.setattr(Estimate, "kept", 0.5)
    views[:] = 255
    short = deepshap(network, views[0], 1, 0 * background)
    assert short.missing == pytest.approx(255 * 0.0005 / 2, rel=1e-4)
    assert short.words.endswith("does not add up: +0.06 of +0.13 is missing.")
    monkeypatch.setattr(Estimate, "shap_values", lambda *_, **__: 1 / 0)
    with pytest.raises(ParamsError, match=r"SHAP cannot follow this network .division by zero"):
        deepshap(network, views[0], 1, background)


def test_what_is_missing_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match=r"'deepshap' needs gradients, which an .onnx file does not give"):
        check_method(Model(write_onnx(tmp_path / "dark.onnx")), "deepshap")
    network, image = colours()
    save_model(network, tmp_path, DARK)
    model = Model(tmp_path)
    check_method(model, "deepshap")
    with pytest.raises(ParamsError, match=r"compares with training images, and those of .* are not here"):
        explain(model, image[0], "deepshap")
    monkeypatch.setattr(module, "background_of", lambda *_: image[None])
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MachineError, match=r"pip install -e '.\[shap\]'"):
        explain(model, image[0], "deepshap")
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), image[0])
    with pytest.raises(MachineError, match="shap"):  # once, not for each image
        explain_files([str(tmp_path / "a.png"), str(tmp_path / "b.png")], tmp_path, tmp_path / "out", "deepshap")


@pytest.mark.skipif(find_spec("shap") is None, reason="needs the extra shap, with numba 200 MB")
def test_the_real_explainer_names_what_the_network_sees_and_follows_the_operations_of_mobilenetv2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = colours()
    save_model(network, tmp_path, DARK)
    monkeypatch.setattr(module, "background_of", lambda *_: np.full((3, *image.shape), 120, np.uint8))
    found = explain(Model(tmp_path), image[0], "deepshap")
    assert found.note.startswith("DeepExplainer against 3 training images adds up: ")
    assert found.drops.sum() == pytest.approx(found.probability - 1 / (1 + np.exp(-0.5)), abs=1e-4)
    assert found.drops[0, 1:3, 1:3].min() > 0 > found.drops[0, 1:3, 6:8].max()
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.DepthwiseConv2D(3, strides=2)(keras.layers.Rescaling(1 / 64)(pixels))
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(keras.layers.ReLU(6.0)(x))
    mobile = keras.Model(pixels, keras.layers.Dense(3, "softmax", name="probabilities")(x))
    shown = deepshap(mobile, image, 2, 255 - image[None])
    assert shown.words.startswith("DeepExplainer")
    assert abs(shown.missing) < 1e-4
