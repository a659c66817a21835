"""Tiles from end to end: trained one by one or together, and one answer an image in either way."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.params import parse_params, read_params
from biopsy.core.sections.data import Resize, Tiles
from biopsy.core.sections.model import Head, Model
from biopsy.images.preparation.record import Preparation, images_of, write_preparation
from biopsy.networks.answers import answer_images
from biopsy.networks.backend import keras
from biopsy.networks.build import build_model
from biopsy.networks.model_file import load_model, save_model
from biopsy.tables.split.parts import read_images
from biopsy.training.fit import fit
from cards import CARD
from conftest import ROOT
from tiny import make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_training")

TILED = Resize(size=32, mode="tiles", tiles=Tiles(px=20, rows=1, columns=3))
SHORT = {
    "tasks": ["binary"], "resize": TILED.model_dump(), "train.epochs.binary": 2, "train.batch": 16,
    "augment.every": {"flip": True},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "shape", "images"),
    [
        ({"model.tiles": "each"}, (None, 32, 32, 3), 32 * 3),
        pytest.param({"model.tiles": "mean"}, (None, 3, 32, 32, 3), 32, marks=pytest.mark.graph),
        ({"model.tiles": "mean", "model.trainable": "none", "model.feature_views": 2}, (None, 3, 32, 32, 3), 32),
    ],
    ids=["each", "mean", "stored features"],
)
def test_a_model_of_tiles_trains_and_answers_once_an_image(
    tmp_path: Path,
    set_params: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    shape: Any,
    images: int,
) -> None:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    make_project(tmp_path, resize=TILED)
    params = read_params(set_params(SHORT | change))
    fitted: list[Any] = []
    stage = runpy.run_path(str(ROOT / "stages/train.py"))

    def spy(model: Any, params: Any, task: Any, store: Any, targets: Any, n_train: int, **more: Any) -> Any:
        fitted.extend([len(store), len(targets), n_train, len(more["cases"])])
        return fit(model, params, task, store, targets, n_train, **more)

    monkeypatch.setattr("biopsy.training.train_model.fit", spy)
    stage["train"](params, "binary", "case", tmp_path)
    assert fitted == [images + images // 4, images + images // 4, images, images]  # 8 of 40 images validate
    model, card = load_model(tmp_path / "models/binary-case")
    assert model.input_shape == shape
    assert card.preparation.views == 3
    runpy.run_path(str(ROOT / "stages/evaluate.py"))["evaluate"](params, "binary", "case", tmp_path)
    table = pd.read_csv(tmp_path / "data/predictions/binary-case.csv")
    assert len(table) == 8 == read(tmp_path / "metrics/binary-case/details.json")["images"]
    tree, preparation = images_of(tmp_path, "case")
    pixels = read_images([tree / f"{image_id}.png" for image_id in table["image_id"]], 32, preparation.views)
    by_image = pixels.astype(np.float32).reshape(8, 3, 32, 32, 3)
    if shape[1] == 3:
        expected = model.predict_on_batch(by_image)[:, 0]
    else:
        expected = np.mean([model.predict_on_batch(by_image[:, k])[:, 0] for k in range(3)], axis=0)
    np.testing.assert_allclose(table["p_malignant"], expected, atol=1e-5)


@pytest.mark.parametrize("tiles", ["each", "mean"])
def test_a_data_set_of_images_smaller_than_a_tile_trains_on_one_view_of_each(
    tmp_path: Path, set_params: Callable[..., Path], tiles: str
) -> None:
    """As the stage `resize` leaves it; the model's card, and so a prediction, has that view too."""
    make_project(tmp_path, resize=Resize(size=32))
    change = {"resize.mode": "tiles", "resize.tiles": {"px": 32}, "model.tiles": tiles}
    params = read_params(set_params({**SHORT, "resize": {"size": 32}} | change))
    stage = runpy.run_path(str(ROOT / "stages/train.py"))
    smaller = params.model_copy(update={"resize": params.resize.model_copy(update={"tiles": Tiles(px=31)})})
    with pytest.raises(DataError, match=r"resize\.mode: stretch, not tiles"):
        stage["train"](smaller, "binary", "case", tmp_path)
    resize = Resize(size=32, tiles=Tiles(px=32))
    for folder in ("data/resized", "data/stained/case"):
        write_preparation(tmp_path / folder, Preparation(max_pixels=50_000_000, resize=resize))
    stage["train"](params, "binary", "case", tmp_path)
    model, card = load_model(tmp_path / "models/binary-case")
    assert (model.input_shape, card.preparation.resize) == ((None, 32, 32, 3), resize)


@pytest.mark.parametrize(("backbone", "feature_norm"), [("cnn", False), ("cnn", True), ("mobilenetv2", True)])
def test_taken_together_the_head_sees_the_mean_of_the_tiles_features(
    tmp_path: Path, backbone: str, feature_norm: bool
) -> None:
    """So equal tiles answer as one does, and the model survives its file."""
    about = Model(backbone=backbone, head=Head(feature_norm=feature_norm, units=0, unit_norm=False, batch_norm=False))
    single, together = build_model(about, 32, 8), build_model(about, 32, 8, tiles=2)
    together.set_weights(single.get_weights())
    save_model(together, tmp_path, CARD)
    loaded = load_model(tmp_path)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 32, 32, 3)).astype(np.float32)
    twice = np.repeat(pixels[:, :1], 2, axis=1)
    alone = answer_images(single, pixels[:, :1], 1.0, "none")
    np.testing.assert_allclose(answer_images(loaded, twice, 1.0, "none"), alone, atol=1e-4)
    pooled = [keras.Model(m.inputs, m.get_layer("head_pool").output) for m in (single, together)]
    each = np.mean([pooled[0].predict_on_batch(pixels[:, k]) for k in range(2)], axis=0)
    np.testing.assert_allclose(pooled[1].predict_on_batch(pixels), each, rtol=1e-3, atol=1e-3)
    mean = np.mean([answer_images(single, pixels[:, k : k + 1], 1.0, "none") for k in range(2)], axis=0)
    np.testing.assert_allclose(answer_images(single, pixels, 1.0, "none"), mean, atol=1e-5)


def test_tiles_that_are_taken_together_are_not_mixed() -> None:
    content = {
        "resize": {"mode": "tiles"}, "model": {"tiles": "mean"}, "augment": {"mix": {"mixup": 0.2}},
        "train": {"class_weights": "none"},
    }  # fmt: skip
    with pytest.raises(ParamsError, match=r"augment\.mix .*model\.tiles is 'mean'.*each"):
        parse_params(content)
