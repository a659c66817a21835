"""Which engine computes features, and that it gives those of Keras."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from biopsy.core.sections.model import Features, Head, Model
from biopsy.networks import extractor as module
from biopsy.networks.backend import seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.extractor import asker, engine_of
from biopsy.networks.feature_store import FeatureStore
from biopsy.networks.features import split_model
from conftest import ROOT

PLAIN = Head(feature_norm=False, units=0)
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def tiled() -> Any:
    seed_everything(0)
    layers = Features(layers=["block_13_expand_relu", "last"])
    model = Model(backbone="mobilenetv2", weights="none", trainable="none", head=PLAIN, features=layers)
    return split_model(build_model(model, 32, 2, tiles=3))[0]


def test_a_frozen_network_of_tiles_runs_in_onnx_runtime_with_the_features_of_keras(
    tiled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_of(tiled).startswith("onnxruntime ")
    wanted = np.asarray(tiled.predict_on_batch(IMAGES))
    ask = asker(tiled, 2, tmp_path / "kept.onnx")
    found = ask(IMAGES)
    assert (tmp_path / "kept.onnx").stat().st_size > 1e6
    with monkeypatch.context() as patch:
        patch.setattr(module, "to_onnx", None)  # the next process converts nothing
        ask = asker(tiled, 2, tmp_path / "kept.onnx")
        patch.setattr(type(tiled), "predict_on_batch", None)
        np.testing.assert_array_equal(ask(IMAGES), found)
    (tmp_path / "kept.onnx").write_bytes(b"torn")
    ask = asker(tiled, 2, tmp_path / "kept.onnx")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))
    np.testing.assert_array_equal(ask(IMAGES), found)


def test_features_of_another_engine_are_others(tiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FeatureStore(tiled).folder
    monkeypatch.setattr("biopsy.networks.feature_store.engine_of", lambda _: "tensorflow")
    assert FeatureStore(tiled).folder != folder


@pytest.mark.parametrize("fault", ["other features", "no number", "cannot be converted"])
def test_keras_computes_what_onnx_runtime_cannot_or_does_otherwise(
    tiled: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def session(content: bytes) -> Any:
        if fault == "cannot be converted":
            raise ValueError("no such operation")
        by = np.float32(np.nan if fault == "no number" else 0.01)
        return lambda images: np.asarray(tiled.predict_on_batch(images), np.float32) + by

    monkeypatch.setattr(module, "to_onnx", lambda *_: onnx.ModelProto())
    monkeypatch.setattr(module, "_session", session)
    np.testing.assert_array_equal(asker(tiled, 2)(IMAGES), tiled.predict_on_batch(IMAGES))


def test_a_small_network_and_a_gpu_keep_to_keras(tiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = split_model(build_model(Model(trainable="none", head=PLAIN), 32, 2))[0]
    assert engine_of(small) == "tensorflow"
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    assert engine_of(tiled) == "tensorflow"


def test_whatever_imports_onnx_runtime_keeps_it_from_reporting_to_its_maker() -> None:
    """Training had it write a device id into the user's cache; only prediction had been told not to."""
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    for path in (ROOT / "biopsy").rglob("*.py"):
        text = path.read_text("utf-8")
        if re.search(r"^\s*(import|from) onnxruntime", text, re.MULTILINE):
            assert path.name == "onnx_session.py" or "import biopsy.networks.onnx_session" in text, path
