"""A model on an encoder, trained and tested."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from biopsy.core.files import sha256
from biopsy.core.params import read_params
from biopsy.core.sections.data import Resize, Tiles
from biopsy.networks.model_file import read_card
from conftest import ROOT
from tiny import make_project
from tiny_onnx import SIZE, encoder

TILED = Resize(size=SIZE, mode="tiles", tiles=Tiles(px=20, rows=1, columns=3))
ENCODER = {
    "model.backbone": "onnx", "model.weights": "e.onnx", "model.trainable": "none", "model.tiles": "mean",
    "model.head.kind": "probe", "resize": TILED.model_dump(), "augment.every": {}, "model.encoder.name": "uni2-h",
    "model.tta": "flips",
}  # fmt: skip


def test_a_model_on_an_encoder_learns_and_is_tested_without_the_file(
    tmp_path: Path, set_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    make_project(tmp_path, resize=TILED)
    (tmp_path / "e.onnx").write_bytes(encoder())
    params = read_params(set_params(ENCODER))
    runpy.run_path(str(ROOT / "stages/train.py"))["train"](params, "binary", "case")
    card = read_card(tmp_path / "models/binary-case")
    assert card.backbone_weights_sha256 == sha256(tmp_path / "e.onnx")
    assert "under CC BY-NC-ND 4.0" in card.terms
    assert card.terms in capsys.readouterr().out
    assert card.tta == "flips"
    (tmp_path / "e.onnx").unlink()  # the model has it
    assert json.loads((tmp_path / "metrics/binary-case/train.json").read_text())["accuracy"] > 0.7
    runpy.run_path(str(ROOT / "stages/evaluate.py"))["evaluate"](params, "binary", "case")
    assert len(pd.read_csv(tmp_path / "data/predictions/binary-case.csv")) == 8
