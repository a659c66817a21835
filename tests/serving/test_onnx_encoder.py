"""A model on an encoder as one ONNX file: it answers as the folder does, and is the same each time."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import biopsy
from biopsy.core.errors import SourceError
from biopsy.core.sections.data import Resize, Tiles
from biopsy.core.sections.model import Features, Head, Model
from biopsy.images.preparation.record import Preparation
from biopsy.networks.backend import seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.model_file import save_model
from biopsy.serving.export.run import export_model
from biopsy.serving.onnx_file import open_file
from tiny_onnx import DARK, SIZE, corner, encoder

TILED = Preparation(max_pixels=10_000, resize=Resize(size=SIZE, mode="tiles", tiles=Tiles(px=32, rows=1, columns=2)))
LINEAR = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False, dropout=0)


def write_model(folder: Path, content: bytes, tiles: Any, **change: Any) -> None:
    """A head that is not trained, so that its answers differ between images."""
    (folder.parent / "e.onnx").write_bytes(content)
    about = {"backbone": "onnx", "weights": str(folder.parent / "e.onnx"), "trainable": "none", "head": LINEAR}
    settings = Model(**{**about, "tiles": tiles or "each", **change})
    seed_everything(1)
    model = build_model(settings, SIZE, 2, tiles=2 if tiles == "mean" else 1)
    kernel, _ = model.get_layer("probabilities").get_weights()
    model.get_layer("probabilities").set_weights([kernel / 100, np.array([0.5])])
    folder.mkdir()
    card = {"params": {"model": settings.model_dump()}, "temperature": 1.7}
    save_model(model, folder, DARK.model_copy(update=card | ({"preparation": TILED} if tiles else {})))


@pytest.mark.parametrize(
    ("content", "tiles", "change"),
    [
        (encoder("float"), None, {}),
        (encoder(opset=21), "each", {}),
        (encoder("float", "side", opset=13), "mean", {"features": Features(pool="sd"), "tta": "d4"}),
        (corner(), "each", {"tta": "flips"}),
    ],
    ids=["floats", "tiles", "tiles together", "flipped corners"],
)
def test_the_file_gives_the_probabilities_of_the_folder(
    tmp_path: Path, content: bytes, tiles: Any, change: dict[str, Any]
) -> None:
    write_model(tmp_path / "m", content, tiles, **change)
    path, difference = export_model(tmp_path / "m", root=tmp_path)
    assert difference < 1e-5
    rng = np.random.default_rng(1)
    images = [(rng.integers(0, 128, 3) + rng.integers(0, 128, (SIZE, 2 * SIZE, 3))).astype(np.uint8) for _ in range(3)]
    given, wanted = (biopsy.load(p).predict(images).filter(like="p_").to_numpy() for p in (path, tmp_path / "m"))
    assert len(np.unique(wanted[:, 0])) == 3
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    again, _ = export_model(tmp_path / "m", tmp_path / "again.onnx", tmp_path)
    assert again.read_bytes() == path.read_bytes()
    assert open_file(path)[2] == biopsy.load(tmp_path / "m").card
    domains = [each.domain for each in onnx.load(path).opset_import]
    assert len(domains) == len(set(domains)), "`--int8` wants one version of a domain"


def test_an_encoder_too_old_to_be_joined_with_the_head_says_so(tmp_path: Path) -> None:
    write_model(tmp_path / "m", encoder(opset=8), None)
    with pytest.raises(SourceError, match=r"encoder is of ONNX opset 8.*Use the model through its folder"):
        export_model(tmp_path / "m", root=tmp_path)
