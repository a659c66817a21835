"""The store of a frozen backbone's features: what it gives back, what it passes over, what it costs."""

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from biopsy.core.sections.model import Head, Model
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.feature_store import FeatureStore, StoredModel, hash_images
from biopsy.networks.features import split_model
from biopsy.training.inputs.image_features import image_features

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/features"


@pytest.fixture
def model() -> Any:
    seed_everything(0)
    return build_model(Model(trainable="none", head=Head(feature_norm=False, units=0)), 32, 2)


def extractor(width: int) -> Any:
    return SimpleNamespace(
        to_json=lambda: "{}",
        get_weights=list,
        count_params=lambda: 0,
        input_shape=(None, 32, 32, 3),
        output_shape=(None, width),
    )


def torn(path: Path, content: bytes) -> None:
    path.write_bytes(content[:-1000])


def torn_by_whole_rows(path: Path, content: bytes) -> None:
    path.write_bytes(content[: len(content) // 2])


def one_bit_else(path: Path, content: bytes) -> None:
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])


def foreign(path: Path, content: bytes) -> None:
    path.write_bytes(b"\x93NUMPY" * 1000)


def empty(path: Path, content: bytes) -> None:
    path.write_bytes(b"")


def a_folder(path: Path, content: bytes) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path, content: bytes) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [torn, torn_by_whole_rows, one_bit_else, foreign, empty, a_folder, a_pipe])
def test_of_a_damaged_file_what_is_no_good_is_computed_again(
    cache: Path, model: Any, damage: Callable[[Path, bytes], None]
) -> None:
    backbone = split_model(model)[0]
    every = image_features(backbone, IMAGES, "test")
    (path,) = cache.rglob("*.rows")
    damage(path, path.read_bytes())
    known = [FeatureStore(backbone).get(name) for name in hash_images(IMAGES)]
    assert any(row is None for row in known)
    assert all(row is None or np.array_equal(row, good) for row, good in zip(known, every, strict=True))
    np.testing.assert_array_equal(StoredModel(model).without_head().predict_on_batch(IMAGES.astype(np.float32)), every)


def test_what_is_not_finite_is_computed_again(model: Any) -> None:
    backbone = split_model(model)[0]
    store, names = FeatureStore(backbone), hash_images(IMAGES)
    for value in (np.nan, np.inf):
        assert store.write(names, np.full((10, backbone.output_shape[1]), value, np.float32))
        assert np.isfinite(image_features(backbone, IMAGES, "test")).all()


def test_a_store_that_cannot_be_written_costs_no_training_what_it_has_computed(
    cache: Path, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.parent.mkdir()
    cache.write_text("a file")
    found = image_features(split_model(model)[0], IMAGES, "test")
    said = capsys.readouterr()
    assert "warning: features of 10 images cannot be kept in" in said.err
    assert "set BIOPSY_CACHE" in said.err
    assert "kept" not in said.out
    assert np.isfinite(found).all()


def test_a_stored_model_keeps_what_it_computes_and_where_it_cannot_says_so_once(
    cache: Path, model: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("biopsy.networks.feature_store.KEPT_AT_ONCE", 4)
    backbone, asked = split_model(model)[0], IMAGES.astype(np.float32)
    stored = StoredModel(model)
    stored.predict_on_batch(asked[:4])
    assert all(FeatureStore(backbone).get(name) is not None for name in hash_images(IMAGES[:4]))
    stored.predict_on_batch(asked[:6])
    assert FeatureStore(backbone).get(hash_images(IMAGES)[5]) is None
    stored.keep()
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "compute", None)
        StoredModel(model).predict_on_batch(asked[:6])
    shutil.rmtree(cache)
    cache.write_text("a file")
    stored = StoredModel(model)
    for start in (0, 4):
        stored.predict_on_batch(asked[start : start + 4])
    assert capsys.readouterr().err.count("cannot be kept") == 1


def test_the_backbone_sees_batches_of_one_size_whoever_asks_and_whatever_is_known(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, sizes = keras.Model.predict_on_batch, set[int]()

    def note(self: Any, images: Any) -> Any:
        if self.name == "extractor":
            sizes.add(len(images))
        return ask(self, images)

    monkeypatch.setattr(keras.Model, "predict_on_batch", note)
    image_features(split_model(model)[0], IMAGES[:3], "test")
    asked = IMAGES.astype(np.float32)
    found = StoredModel(model).predict_on_batch(asked)
    assert len(sizes) == 1
    np.testing.assert_allclose(found, model.predict_on_batch(asked), rtol=1e-4)


def test_only_the_names_of_what_is_kept_take_memory() -> None:
    backbone, n, width = extractor(2000), 3000, 2000
    names = [f"{row:032}".encode() for row in range(n)]
    FeatureStore(backbone).write(names, np.random.default_rng(0).random((n, width)).astype(np.float32))
    tracemalloc.start()
    store = FeatureStore(backbone)
    assert store.get(names[-1]) is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * width * 4 / 10
