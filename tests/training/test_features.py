"""Stored features of a frozen backbone: what they save, what they must not change, and when they are made again."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopsy.core.code_digest import code_digest
from biopsy.core.errors import MachineError
from biopsy.core.params import parse_params
from biopsy.core.sections.model import Head, Model
from biopsy.networks.backend import keras, seed_everything, tf
from biopsy.networks.build import build_model
from biopsy.networks.feature_store import cache_folder
from biopsy.networks.features import split_model
from biopsy.training.inputs import features
from biopsy.training.inputs.features import head_on_features
from biopsy.training.inputs.feed import PixelFeed
from biopsy.training.inputs.loader import ImageStore, training_items
from biopsy.training.memory import step_bytes
from conftest import assert_kind
from tiny import make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures")

FLIPS = {"every": {"flip": True, "rot90": True}}
STILL: dict[str, Any] = {"every": {}}
TARGETS = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 1])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/features"


def feed(augment: dict[str, Any], seed: int = 0, images: int = 0, cases: np.ndarray | None = None) -> PixelFeed:
    params = parse_params({"augment": augment, "seed": seed})
    store = ImageStore.whole(np.random.default_rng(images).integers(0, 256, (10, 32, 32, 3)).astype(np.uint8))
    items = training_items(TARGETS[:7], params.augment, "binary", cases)
    return PixelFeed(store, items, TARGETS[7:], params, "binary", 2, 4)


def frozen(feature_norm: bool = False, seed: int = 0) -> Any:
    seed_everything(seed)
    head = Head(feature_norm=feature_norm, units=4, batch_norm=True, dropout=0.0)
    return build_model(Model(backbone="cnn", trainable="none", head=head), 32, 2)


@pytest.mark.parametrize("feature_norm", [False, True], ids=["pooled", "feature map"])
def test_the_two_halves_of_a_network_make_the_whole(feature_norm: bool) -> None:
    model = frozen(feature_norm)
    extractor, head = split_model(model)
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        head.predict_on_batch(extractor.predict_on_batch(images)), model.predict_on_batch(images)
    )
    assert {id(w) for w in head.trainable_weights} == {id(w) for w in model.trainable_weights}
    assert len(extractor.output_shape) == (4 if feature_norm else 2)


@pytest.mark.parametrize("cases", [None, np.array([0, 1, 1, 1, 0, 2, 2])], ids=["by image", "by case"])
def test_each_epoch_sees_the_features_of_the_images_that_it_would_have_seen(cases: np.ndarray | None) -> None:
    model, images = frozen(), feed(FLIPS, cases=cases)
    extractor, _ = split_model(model)
    _, stored = head_on_features(model, images, 3, "test")
    for (pixels, target), (found, stored_target) in zip(images.train(range(3)), stored.train(range(3)), strict=True):
        np.testing.assert_allclose(found, extractor.predict_on_batch(pixels), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(target, stored_target)
    again = [f.numpy() for f, _ in stored.train(range(3, 5))]
    first = np.concatenate([f.numpy() for f, _ in stored.train(range(0, 1))])
    once = sorted(map(bytes, np.concatenate(again[:2]))) == sorted(map(bytes, first))
    assert once == (cases is None)  # by case the third epoch draws others than the first


def test_a_rest_of_one_joins_the_batch_before_it_as_with_images() -> None:
    images = replace(feed(STILL), batch=3)
    _, stored = head_on_features(frozen(), images, 1, "test")
    for batches in (images, stored):
        assert [len(targets) for _, targets in batches.train(range(2))] == [3, 4] * 2


def test_a_second_run_asks_the_backbone_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, one = head_on_features(frozen(), feed(FLIPS), 2, "test")
    files = {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}
    monkeypatch.setattr(keras.Model, "predict_on_batch", None)
    _, other = head_on_features(frozen(), feed(FLIPS), 2, "test")
    np.testing.assert_array_equal(one.features, other.features)
    assert {p.name: p.stat().st_mtime_ns for p in cache.iterdir()} == files
    assert len(files) == 2


@pytest.mark.parametrize(
    ("augment", "change", "new"),
    [
        (FLIPS, {"images": 1}, 2),
        (FLIPS, {"seed": 1}, 1),
        (STILL, {"seed": 1}, 0),
        ({"every": {"flip": True}}, {}, 0),
    ],
    ids=["other images", "other draws", "a seed that nothing draws from", "nothing"],
)
def test_what_the_features_depend_on_makes_them_anew_and_nothing_else(
    cache: Path, augment: dict[str, Any], change: dict[str, Any], new: int
) -> None:
    head_on_features(frozen(), feed(augment), 2, "test")
    before = set(cache.iterdir())
    head_on_features(frozen(), feed(augment, **change), 2, "test")
    assert len(set(cache.iterdir()) - before) == new


def test_other_weights_make_them_anew(cache: Path) -> None:
    head_on_features(frozen(seed=0), feed(STILL), 1, "test")
    head_on_features(frozen(seed=1), feed(STILL), 1, "test")
    assert len(list(cache.iterdir())) == 4


def test_another_way_from_pixels_to_features_makes_them_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, edit_code: Callable[..., None]
) -> None:
    """What an augmentation of the same name and strength does, or the layer of a backbone."""
    unedited, ways = features.CODE, set()
    inputs = ("training/inputs/loader", "training/inputs/feed", "training/inputs/features")
    for name in ("networks/backbones/preprocessing", *inputs, "training/augment/basic", "training/tensors/arrays"):
        edit_code(f"biopsy/{name}.py")
        ways.add(code_digest(*features.MODULES))
    assert len(ways - {unedited}) == 6
    head_on_features(frozen(), feed(STILL), 1, "test")
    monkeypatch.setattr(features, "CODE", code_digest(*features.MODULES))  # as the next process has it
    head_on_features(frozen(), feed(STILL), 1, "test")
    assert len(list(cache.iterdir())) == 4
    edit_code("biopsy/training/losses.py")
    assert code_digest(*features.MODULES) == unedited  # a loss makes no features


def test_one_view_is_stored_where_nothing_is_random() -> None:
    _, stored = head_on_features(frozen(), feed(STILL), 8, "test")
    assert stored.features.shape[0] == 7


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00v\x00", None], ids=["empty", "header only", "truncated"])
def test_a_broken_file_is_made_again(cache: Path, damage: bytes | None) -> None:
    _, whole = head_on_features(frozen(), feed(STILL), 1, "test")
    expected = np.array(whole.features)
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
    _, again = head_on_features(frozen(), feed(STILL), 1, "test")
    np.testing.assert_array_equal(again.features, expected)


def test_nothing_half_made_stays_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "predict_on_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        head_on_features(frozen(), feed(STILL), 1, "test")
    assert list(cache.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_is_making_is_not(cache: Path) -> None:
    cache.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = platform.node().partition(".")[0]
    kept = [cache / f"b.{host}.{os.getppid()}.tmp", cache / f"c.another-{host}.{dead.pid}.tmp"]
    for path in (orphan := cache / f"a.{host}.{dead.pid}.tmp", *kept):
        path.touch()
    head_on_features(frozen(), feed(STILL), 1, "test")
    assert not orphan.exists()
    assert {p for p in cache.iterdir() if p.suffix == ".tmp"} == {*kept}


def test_the_file_that_is_being_made_names_its_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def stop(*_: Any) -> None:
        seen.extend(p.name for p in cache.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "predict_on_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        head_on_features(frozen(), feed(STILL), 1, "test")
    assert [name.split(".")[-2:] for name in seen] == [[str(os.getpid()), "tmp"]]


def test_a_batch_that_the_backbone_cannot_hold_is_refused_before_it_runs_and_only_where_it_has_to(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, head = split_model(frozen())
    assert step_bytes(head, 4) < step_bytes(extractor, 2) < step_bytes(extractor, 4)
    monkeypatch.setattr("biopsy.training.memory.available_bytes", lambda: step_bytes(extractor, 3))
    with pytest.raises(MachineError, match=r"train\.batch: 4 images of 32 px.*train\.batch=2 would fit"):
        head_on_features(frozen(), feed(STILL), 1, "test")
    assert not cache.exists()
    monkeypatch.undo()
    monkeypatch.setenv("BIOPSY_CACHE", str(cache.parent))
    head_on_features(frozen(), feed(STILL), 1, "test")
    monkeypatch.setattr("biopsy.training.memory.available_bytes", lambda: step_bytes(extractor, 3))
    head_on_features(frozen(), feed(STILL), 1, "test")
    monkeypatch.setattr("biopsy.training.memory.available_bytes", lambda: 1)
    with pytest.raises(MachineError, match=r"train\.batch: 4 images need"):
        head_on_features(frozen(), feed(STILL), 1, "test")


def test_memory_that_runs_out_while_the_backbone_runs_is_the_same_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(keras.Model, "predict_on_batch", exhausted)
    with pytest.raises(MachineError, match=r"train\.batch: 4 images of 32 px.*would fit"):
        head_on_features(frozen(), feed(STILL), 1, "test")
    assert list(cache.iterdir()) == []


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache/features"
    monkeypatch.delenv("BIOPSY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/biopsy/features")


FROZEN = {
    "model.backbone": "cnn",
    "resize.size": 32,
    "model.trainable": "none",
    "train.epochs": 3,
    "train.learning_rate": 0.01,
    "augment.every": {},
}
ARGUMENTS = ("--task", "binary", "--protocol", "case")


def test_training_a_head_on_stored_features_is_training_it_on_images(
    tmp_path: Path, set_params: Callable[..., Path], run_stage: Callable[..., Any]
) -> None:
    make_project(tmp_path)
    figures = []
    for views in (None, 1):
        set_params({**FROZEN, "model.feature_views": views, "model.head.dropout": 0.0})
        result = run_stage("train", *ARGUMENTS)
        assert result.returncode == 0, result.stderr
        figures.append(read(tmp_path / "metrics/binary-case/train.json"))
    assert "features of" in result.stdout
    assert figures[0].keys() == figures[1].keys()
    for key, value in figures[0].items():
        assert figures[1][key] == pytest.approx(value, abs=1e-4), key
    again = run_stage("train", *ARGUMENTS)
    assert "stored features from" in again.stdout
    assert read(tmp_path / "metrics/binary-case/train.json") == figures[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.trainable": "all"}, ("model.feature_views", "model.trainable")),
        ({"augment.every": {"flip": True}}, ("model.feature_views is 1", "augment.every")),
        ({"augment.copies": {"binary": {"flip": True}}}, ("model.feature_views is 1", "augment.copies")),
        ({"augment.mix.mixup": 0.2, "train.class_weights": "none"}, ("augment.mix", "model.feature_views")),
    ],
)
def test_what_stored_features_cannot_do_is_refused(
    tmp_path: Path,
    set_params: Callable[..., Path],
    run_stage: Callable[..., Any],
    change: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    set_params({**FROZEN, "model.feature_views": 1} | change)
    assert_kind(run_stage("train", *ARGUMENTS), *words)
