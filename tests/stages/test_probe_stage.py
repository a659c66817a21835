"""A probe from end to end: trained, saved, tested; what it must not see, and what it cannot go with."""

import runpy
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.params import parse_params, read_params
from biopsy.core.sections.data import Resize, Tiles
from biopsy.core.sections.model import Features, Head, Model
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.feature_store import FeatureStore
from biopsy.networks.features import split_model
from biopsy.networks.model_file import ProbeChoice, load_model
from biopsy.tables.split.parts import read_images
from biopsy.training.inputs.image_features import image_features
from conftest import ROOT
from tiny import make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_training")

TILED = Resize(size=32, mode="tiles", tiles=Tiles(px=20, rows=1, columns=3))
PROBE = {
    "model.backbone": "cnn", "model.head.kind": "probe", "model.trainable": "none",
    "augment.every": {},
    "model.features": {"layers": ["block2_relu", "last"], "pool": "sd"},
}  # fmt: skip
PLAIN = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False)
HEAD_ALONE = PLAIN.model_dump() | {"kind": "probe"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small CNN's weights, as if somebody had trained it."""
    path = tmp_path_factory.mktemp("weights") / "cnn.weights.h5"
    seed_everything(7)
    model = build_model(Model(head=PLAIN), 32, 2)
    keras.Model(model.input, model.get_layer("block5_pool").output).save_weights(path)
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/features"


@pytest.fixture
def trained(tmp_path: Path, set_params: Callable[..., Path], weights: str) -> Callable[..., Any]:
    """Train and evaluate below tmp_path; give the model."""

    def run(task: str = "binary", **change: Any) -> Any:
        params = read_params(set_params(PROBE | {"resize.size": 32, "model.weights": weights} | change))
        runpy.run_path(str(ROOT / "stages/train.py"))["train"](params, task, "case", tmp_path)
        runpy.run_path(str(ROOT / "stages/evaluate.py"))["evaluate"](params, task, "case", tmp_path)
        return load_model(tmp_path / f"models/{task}-case")[0]

    return run


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("tiles", ["none", "each", pytest.param("mean", marks=pytest.mark.graph)])
def test_the_saved_network_answers_as_the_probe_within_a_millionth(
    tmp_path: Path, trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, task: str, tiles: str
) -> None:
    resize = Resize(size=32) if tiles == "none" else TILED
    make_project(tmp_path, resize=resize)
    fitted: list[Any] = []
    from biopsy.training import probing

    fit, layers = probing.fit_layers, "averaged" if tiles == "mean" else "together"
    monkeypatch.setattr(probing, "fit_layers", lambda *given: fitted.append((given, fit(*given))) or fitted[0][1])
    model = trained(
        task,
        **{
            "model.probe.refit": False,
            "model.probe.layers": layers,
            "model.probe.parent": tiles != "each",
            "resize": resize.model_dump(),
        }
        | ({} if tiles == "none" else {"model.tiles": tiles}),
    )
    (features, *_), probe = fitted[0]
    images = 32 * (3 if tiles == "each" else 1)
    assert {name: found.shape for name, found in features.items()} == {
        "block2_relu": (images, 64),  # mean and deviation of 32 channels
        "last": (images, 192),
    }  # 8 of the 40 that are no test images validate
    card = load_model(tmp_path / f"models/{task}-case")[1]
    own, above = probe.strengths(), probe.strengths(parent=True)
    assert card.probe == ProbeChoice(layers=["block2_relu", "last"], C=own, C_parent=above)
    assert len(own) == (2 if layers == "averaged" else 1)
    assert len(above) == (len(own) if task == "multiclass" and tiles != "each" else 0)
    files = sorted((tmp_path / "data/resized").glob("*.png"))
    squares = read_images(files, 32, 3 if tiles != "none" else 1).astype(np.float32)
    pixels = squares.reshape(-1, 3, 32, 32, 3) if tiles == "mean" else squares
    extractor, _ = split_model(model)
    expected = probe.probabilities(extractor.predict_on_batch(pixels))
    found = model.predict_on_batch(pixels)
    np.testing.assert_allclose(found, expected[:, 1:] if task == "binary" else expected, rtol=1e-5, atol=1e-6)
    told = read(tmp_path / f"metrics/{task}-case/train.json")
    assert told["epochs"] == told["best_epoch"] == 1
    assert set(probe.figures()) | {"inner_macro_f1", "loss", "accuracy", "val_loss", "val_accuracy"} <= set(told)
    assert told["accuracy"] > 0.7
    assert (tmp_path / f"plots/{task}-case/train/curves.png").is_file()
    assert len(pd.read_csv(tmp_path / f"data/predictions/{task}-case.csv")) == 8


def test_the_validation_images_judge_the_first_fit_and_then_are_learnt_from(
    tmp_path: Path, trained: Callable[..., Any], weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(tmp_path)
    kept = ("metrics/binary-case/val.json", "metrics/binary-case/train.json", "data/predictions/binary-case-val.csv")
    first = trained(**{"model.probe.refit": False})
    assert not (tmp_path / "models/binary-case/validation.csv").exists()
    assert load_model(tmp_path / "models/binary-case")[1].params["model"]["weights"] == Path(weights).name  # no folder
    before = {name: (tmp_path / name).read_bytes() for name in kept}
    again = trained()
    said = capsys.readouterr().out
    assert "train binary-case: probe with C " in said
    assert "epoch" not in said, "a probe has none"
    assert {name: (tmp_path / name).read_bytes() for name in kept} == before
    assert not np.array_equal(first.get_weights()[-2], again.get_weights()[-2])
    stored = tmp_path / "models/binary-case/validation.csv"
    stored.write_text(stored.read_text().replace("0.", "0.1", 1))
    params = read_params(tmp_path / "params.yaml")
    with pytest.raises(SourceError, match=r"validation\.csv is not the file that model\.json describes"):
        runpy.run_path(str(ROOT / "stages/evaluate.py"))["evaluate"](params, "binary", "case", tmp_path)


def test_validation_and_test_images_change_nothing_in_the_first_fit(
    tmp_path: Path, trained: Callable[..., Any]
) -> None:
    import cv2

    trained = partial(trained, **{"model.probe.refit": False})
    table = make_project(tmp_path)
    before = trained().get_weights()
    table.loc[table["part"] != "train", "binary"] = "benign"
    for image_id in table.loc[table["part"] != "train", "image_id"]:
        cv2.imwrite(str(tmp_path / f"data/resized/{image_id}.png"), np.full((32, 32, 3), 255, np.uint8))
    table.drop(columns="part").to_csv(tmp_path / "data/interim/labels.csv", index=False)
    after = trained().get_weights()
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tasks_splits_and_seeds_share_the_features_of_an_image(
    tmp_path: Path, trained: Callable[..., Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_project(tmp_path)
    first = trained()
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*.rows")}
    assert len(files) == 2  # of training and validation, then of the images that are tested
    rows = table["part"] != "test"
    table.loc[rows, "part"] = np.roll(table.loc[rows, "part"], 3)
    table[["image_id", "part"]].to_csv(tmp_path / "data/splits/case.csv", index=False)
    trained("multiclass", seed=1)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.rows")} == files
    next(iter(files)).write_bytes(b"torn")
    again = trained()
    assert len(list(cache.rglob("*.rows"))) == len(files)
    assert [w.shape for w in again.get_weights()] == [w.shape for w in first.get_weights()]


def test_evaluate_asks_the_backbone_only_about_images_that_are_not_stored(
    tmp_path: Path, trained: Callable[..., Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    trained()
    ask, asked = FeatureStore.compute, list[int]()

    def count(self: FeatureStore, images: Any) -> Any:
        asked.append(len(images))
        return ask(self, images)

    monkeypatch.setattr(FeatureStore, "compute", count)
    evaluate = runpy.run_path(str(ROOT / "stages/evaluate.py"))["evaluate"]
    given = tmp_path / "data/predictions/binary-case.csv", tmp_path / "data/predictions/binary-case-images.csv"
    numbers = []
    for kept in (True, False):
        if not kept:
            shutil.rmtree(cache)
        evaluate(read_params(tmp_path / "params.yaml"), "binary", "case", tmp_path)
        numbers.append((sum(asked), *(pd.read_csv(path).select_dtypes("number").to_numpy() for path in given)))
        asked.clear()
    assert [n for n, *_ in numbers] == [0, 48]  # none; all that is tested or looked at, once
    for one, other in zip(*(rest for _, *rest in numbers), strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_do_not_depend_on_which_images_are_asked_for_together(weights: str) -> None:
    model = build_model(
        Model(weights=weights, trainable="none", head=Head(**{**PLAIN.model_dump(), "kind": "probe"})), 32, 2
    )
    extractor, _ = split_model(model)
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    some = image_features(extractor, images[50:53], "test")
    every = image_features(extractor, images, "test")
    np.testing.assert_array_equal(every[50:53], some)
    np.testing.assert_allclose(every, extractor.predict_on_batch(images.astype(np.float32)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "sd", "gem"])
@pytest.mark.parametrize("tiles", [1, 2])
def test_features_are_the_pooled_maps_of_the_named_layers(pool: Any, tiles: int) -> None:
    about = Model(features=Features(layers=["block3_relu", "last"], pool=pool), head=PLAIN)
    model = build_model(about, 64, 2, tiles=tiles)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, tiles, 64, 64, 3)).astype(np.float32)
    asked = pixels if tiles > 1 else pixels[:, 0]
    names = ("block3_relu", "block5_pool")
    plain = build_model(Model(head=PLAIN), 64, 2)
    used = {layer.name: layer for layer in model.layers}
    for layer in plain.layers:
        if layer.name in used and layer.name.startswith("block"):
            layer.set_weights(used[layer.name].get_weights())
    maps = keras.Model(plain.input, [plain.get_layer(name).output for name in names])
    by_tile = maps.predict_on_batch(pixels.reshape(-1, 64, 64, 3))
    expected = []
    for found in by_tile:
        flat = found.reshape(3, -1, found.shape[-1])
        if pool == "gem":
            expected.append(np.cbrt((np.maximum(flat, 0) ** 3).mean(1) + 1e-6))
        else:
            expected += [flat.mean(1)] + ([np.sqrt(flat.var(1) + 1e-6)] if pool == "sd" else [])
    extractor, _ = split_model(model)
    np.testing.assert_allclose(extractor.predict_on_batch(asked), np.concatenate(expected, 1), rtol=1e-3, atol=1e-3)


def test_what_follows_the_last_named_layer_is_neither_kept_nor_counted() -> None:
    model = build_model(Model(features=Features(layers=["block2_pool"]), trainable=1, head=PLAIN), 32, 2)
    assert {layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("block")} == {
        "block1",
        "block2",
    }
    assert model.get_layer("block2_bn").trainable
    assert not model.get_layer("block2_conv").trainable


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("xyz", r"'xyz' is not there.*There are .*block1_conv"),
        ("blok3_relu", "'blok3_relu' is not there.*Did you mean 'block3_relu'"),
        ("pixels", "'pixels' is not a feature map"),
    ],
)
def test_a_layer_that_is_not_there_names_the_nearest(name: str, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        build_model(Model(features=Features(layers=[name]), head=PLAIN), 32, 2)


SOUND: dict[str, Any] = {"weights": "a.weights.h5", "trainable": "none", "head": HEAD_ALONE}


@pytest.mark.parametrize(
    ("model", "other", "words"),
    [
        ({"trainable": "all"}, {}, r"'probe'.*model\.trainable is 'all'\. Set it to none"),
        ({"weights": "none"}, {}, r"'probe'.*model\.weights is 'none'"),
        ({"feature_views": 8}, {}, r"model\.feature_views is 8\. Set it to null"),
        ({"head": {**HEAD_ALONE, "units": 64}}, {}, r"model\.head\.units asks for more"),
        ({"head": {**HEAD_ALONE, "l2": 0.1}}, {}, r"model\.head\.l2 asks for more"),
        ({}, {"augment": {"mix": {"mixup": 0.2}}, "train": {"class_weights": "none"}}, r"augment\.mix makes further"),
        ({}, {"augment": {"double_minority": True}}, r"augment\.double_minority makes further"),
        ({"features": {"layers": ["last", "last"]}}, {}, "each layer may appear only once"),
        (
            {"head": {"feature_norm": True}, "features": {"pool": "gem"}},
            {},
            r"model\.head\.feature_norm works on the map",
        ),
    ],
)
def test_what_a_probe_and_its_features_cannot_go_with_is_one_sentence(
    model: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    parse_params({"model": SOUND})
    with pytest.raises(ParamsError, match=words):
        parse_params({"model": SOUND | model} | other)
