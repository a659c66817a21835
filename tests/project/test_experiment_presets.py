"""Every preset of conf/experiment/ trains on the sample for one epoch; its model is saved, loads in safe mode, predicts
the same. A new preset is taken up by itself.

A small backbone stands in for the preset's: tests/networks/test_backbones.py trains, saves and loads each of them. A
preset that is nothing but a backbone has nothing left to train here; tests/project/test_conf.py composes it.
"""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.utils.hydra import compose_and_dump
from omegaconf import OmegaConf

from biopsy.core.params import Params, read_params
from biopsy.networks.backend import keras
from biopsy.networks.model_file import load_model, save_model
from conftest import ROOT

STAND_IN = {"backbone": "cnn_small", "weights": "none", "trainable": "all", "feature_views": None}
SMALL = [
    "data.sample.images=48", "data.sample.width=64", "data.sample.height=64", "resize.size=32", "tasks=[binary]",
    "protocols=[case]", "train.epochs=1", "train.batch=64", "train.learning_rate=0.0001", "resize.tiles.px=48",
]  # fmt: skip


def is_more_than_a_backbone(path: Path) -> bool:
    """Say whether something of the preset is left where another backbone stands in for its own."""
    preset = OmegaConf.load(path)
    others = [entry for entry in preset.get("defaults", []) if set(entry) != {"override /model"}]
    return bool(others or set(preset) - {"defaults", "experiment"})


PRESETS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml") if is_more_than_a_backbone(path))


def composed(folder: Path, *overrides: str) -> Params:
    """The parameters as `dvc exp run -S ...` composes them, with a small backbone or one of random weights."""
    path = folder / "params.yaml"
    compose_and_dump(path, str(ROOT / "conf"), None, "config", "params", [*SMALL, *overrides])
    content = OmegaConf.load(path)
    probe = content.model.head.kind == "probe"
    content.model.update({"weights": str(random_weights(folder))} if probe else STAND_IN)
    OmegaConf.save(content, path)
    return read_params(path)


def random_weights(folder: Path) -> Path:
    """A probe takes a frozen backbone with weights: those of MobileNetV2 before it has learnt anything."""
    path = folder / "mobilenetv2.weights.h5"
    if not path.exists():
        keras.applications.MobileNetV2(include_top=False, weights=None).save_weights(path)
    return path


def stage(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / f"stages/{name}.py"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, ready to be resized."""
    root = tmp_path_factory.mktemp("sample")
    composed(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("fetch", "ingest", "impute", "split"):
            stage(name)["main"]()
    return root


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The train stage without its pictures, which have tests of their own."""
    found = stage("train")
    for name in ("plot_curves", "plot_strengths"):
        monkeypatch.setattr(f"biopsy.training.train_model.{name}", lambda *_: None)
    return found


@pytest.mark.usefixtures("quick_training")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_saves_loads_in_safe_mode_and_predicts_the_same(
    preset: str, project: Path, script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path))
    params = composed(project, f"+experiment={preset}")
    assert params.experiment == preset
    stage("resize")["main"]()
    stage("stain")["stain"](params, "case")
    kept: list[Any] = []
    monkeypatch.setattr(
        "biopsy.training.train_model.save_model", lambda *what: kept.append(what[0]) or save_model(*what)
    )
    script["train"](params, "binary", "case")
    loaded, card = load_model(project / "models/binary-case")
    rng = np.random.default_rng(0)
    square = next(t.shape[1:] for t in loaded.inputs if t.name != "extra")  # or several: tiles
    inputs: Any = rng.uniform(0, 255, (3, *square)).astype(np.float32)
    if card.extra_inputs:
        inputs = {"pixels": inputs, "extra": rng.normal(size=(3, card.extra_inputs.width)).astype(np.float32)}
    expected = kept[0].predict_on_batch(inputs)
    np.testing.assert_array_equal(loaded.predict_on_batch(inputs), expected)
    assert expected.shape == (3, 1)
    assert np.isfinite(expected).all()
    assert json.loads((project / "metrics/binary-case/train.json").read_text())["epochs"] == 1
