"""A network put together, saved, loaded in safe mode; what is rejected. Each backbone by itself: test_backbones.py."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopsy.core.errors import MachineError, ParamsError, SourceError
from biopsy.core.sections.model import Head, Model
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras, seed_everything, tf
from biopsy.networks.build import build_model, check_model, count_weights
from biopsy.networks.features import pool_maps
from biopsy.networks.model_file import load_model, read_card, save_model, write_card
from biopsy.training.memory import check_batch, limits_in_words, step_bytes
from cards import CARD


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 8])
def test_two_classes_have_one_output_and_more_have_as_many(classes: int, images: np.ndarray, tmp_path: Path) -> None:
    model = build_model(Model(), 32, classes)
    save_model(model, tmp_path, CARD)
    loaded, card = load_model(tmp_path)
    np.testing.assert_array_equal(loaded.predict_on_batch(images), model.predict_on_batch(images))
    assert model.output_shape == (None, 1 if classes == 2 else classes)
    assert card.classes == CARD.classes


# Limited in this way, oneDNN's convolutions end the process where they should compute in bfloat16.
@pytest.mark.parametrize(
    "precision",
    ["mixed_float16"] if "ONEDNN_MAX_CPU_ISA" in os.environ else ["mixed_bfloat16", "mixed_float16"],
)
def test_a_model_that_was_trained_in_a_mixed_precision_answers_in_float32(
    precision: str, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras.config.set_dtype_policy(precision)
    try:
        model = build_model(Model(), 32, 8, extra=1)
    finally:
        keras.config.set_dtype_policy("float32")
    save_model(model, tmp_path, CARD)
    plain = build_model(Model(), 32, 8, extra=1)
    plain.set_weights(model.get_weights())
    asked = {"pixels": images, "extra": np.array([[1 / 3], [300.7], [-2.1]], np.float32)}
    found = load_model(tmp_path)[0].predict_on_batch(asked)
    np.testing.assert_array_equal(found, plain.predict_on_batch(asked))
    assert not np.array_equal(found, model.predict_on_batch(asked))


@pytest.mark.parametrize("pool", ["gem", "sd"])
def test_pooling_in_float16_overflows_neither_forwards_nor_backwards(pool: str) -> None:
    """A step whose gradients overflow is left out: of 10 steps of a training with `gem`, none was taken."""
    maps = np.random.default_rng(0).uniform(0, 90, (2, 4, 4, 3)).astype(np.float32)
    maps[0] = 0
    found = []
    for precision in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(precision)
        try:
            given = keras.Input((4, 4, 3))
            last = keras.layers.Activation("linear")(given)
            model = keras.Model(given, pool_maps([last, last], pool))
        finally:
            keras.config.set_dtype_policy("float32")
        with tf.GradientTape() as tape:
            seen = tf.constant(maps)
            tape.watch(seen)
            scaled = tf.reduce_mean(tf.cast(model(seen), tf.float32)) * 2**15
        assert np.isfinite(tape.gradient(scaled, seen)).all()
        found.append(np.asarray(model(seen), np.float32))
    np.testing.assert_allclose(*found, rtol=5e-3, atol=2e-3)


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    digests = []
    for run in ("one", "two"):
        seed_everything(3)
        (tmp_path / run).mkdir()
        junk = [object() for _ in range(1000)]  # so that objects get other addresses
        save_model(build_model(Model(), 32, 8), tmp_path / run, CARD)
        digests.append((tmp_path / run / "model.keras").read_bytes())
        del junk
    assert digests[0] == digests[1]


def test_densenet_is_cut_after_its_last_block() -> None:
    model = build_model(Model(backbone="densenet121"), 64, 8)
    assert model.get_layer("head_feature_bn").input.shape == (None, 2, 2, 1024)
    assert model.get_layer("conv5_block16_concat").output is model.get_layer("head_feature_bn").input


def test_the_head_has_the_layers_of_the_report_in_its_order() -> None:
    names = [layer.name for layer in build_model(Model(), 32, 8).layers if layer.name.startswith("head")]
    assert names == [
        "head_feature_bn", "head_feature_relu", "head_feature_dropout", "head_pool", "head_unit_norm", "head_dense",
        "head_bn", "head_dropout",
    ]  # fmt: skip


def test_frozen_partly_and_wholly_trainable(tmp_path: Path) -> None:
    linear = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False)
    seed_everything(0)
    file = tmp_path / "mobilenet.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    counts = {
        trainable: count_weights(
            build_model(Model(backbone="mobilenetv2", weights=str(file), trainable=trainable, head=linear), 32, 8)
        )
        for trainable in ("none", 2, "all")
    }
    assert counts["none"][1] == 1280 * 8 + 8
    assert counts["none"][1] < counts[2][1] < counts["all"][1]
    assert counts["none"][0] == counts["all"][0]


def test_an_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"cerberus, cnn, .*densenet121, .*Did you mean 'densenet121'\?"):
        check_model(Model(backbone="densenet"), 256)


def test_an_image_below_the_backbones_minimum_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"resize\.size must be at least 32"):
        check_model(Model(), 16)


def test_a_name_registers_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register(Backbone("cnn", lambda x, w: x, ""))


def test_a_changed_model_file_is_refused(tmp_path: Path) -> None:
    save_model(build_model(Model(), 32, 8), tmp_path, CARD)
    with (tmp_path / "model.keras").open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(SourceError, match="SHA-256"):
        load_model(tmp_path)


def test_code_in_a_model_file_is_not_run(tmp_path: Path) -> None:
    x = keras.Input((32, 32, 3))
    model = keras.Model(x, keras.layers.Lambda(lambda t: t + 1)(x))
    save_model(model, tmp_path, CARD)
    with pytest.raises(SourceError, match="safe mode"):
        load_model(tmp_path)


def test_missing_or_foreign_model_files_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="dvc pull"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_bytes(b'{"task": "binary", "classes": ["benign", "malignant"], "size": 224}')
    with pytest.raises(SourceError, match=r"model\.json was written by an earlier version: it lacks .*dvc repro"):
        load_model(tmp_path)
    for content in (b"", b"[]", CARD.model_dump_json().encode("utf-16"), b'{"task": "\xff"}'):
        (tmp_path / "model.json").write_bytes(content)
        with pytest.raises(SourceError, match=r"model\.json does not describe a model: .*dvc pull"):
            load_model(tmp_path)
    write_card(tmp_path, CARD)
    with pytest.raises(SourceError, match=r"model\.keras is missing.*dvc pull"):
        load_model(tmp_path)


def turned() -> dict[str, Any]:
    """The labels of CARD with the classes in the opposite order."""
    labels = CARD.labels.model_dump(mode="json")
    labels["tasks"]["multiclass"]["classes"].reverse()
    return labels


def twice() -> dict[str, Any]:
    """The labels of CARD with one class twice."""
    labels = CARD.labels.model_dump(mode="json")
    labels["tasks"]["multiclass"]["classes"][1] = labels["tasks"]["multiclass"]["classes"][0]
    return labels


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "organ"}, "its label scheme has no classes for task 'organ'"),
        ({"labels": twice()}, "a class appears twice"),
        ({"threshold": 7}, "threshold Input should be less than 1"),
        ({"threshold": 0.0}, "threshold Input should be greater than 0"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": "0.5"}, "threshold Input should be a valid number"),
        ({"preparation": {"max_pixels": 1, "resize": {"size": 10**9}}}, "preparation.resize.size"),
        ({"model_sha256": "abc"}, "model_sha256"),
        ({"data": {"labels": "abc"}}, "data.labels String should match"),
    ],
)
def test_a_card_with_values_that_no_model_has_is_rejected(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / "model.json").write_text(json.dumps(CARD.model_dump(mode="json") | change))
    with pytest.raises(SourceError) as error:
        read_card(tmp_path)
    assert "model.json does not describe a model: " in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "change",
    [{"labels": turned()}, {"threshold": 0.4}, {"synthetic": False}, {}],
)
def test_an_edited_card_is_rejected_and_one_written_by_us_is_read(tmp_path: Path, change: dict[str, Any]) -> None:
    write_card(tmp_path, CARD)
    assert read_card(tmp_path) == CARD
    path = tmp_path / "model.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(written.items()))))  # another layout of the same
    assert read_card(tmp_path) == CARD
    if not change:  # the hash alone is missing
        del written["card_sha256"]
    path.write_text(json.dumps(written | change))
    with pytest.raises(SourceError, match=r"model\.json was edited.*dvc checkout.*dvc repro"):
        read_card(tmp_path)


def test_a_batch_that_memory_cannot_hold_names_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(Model(), 64, 8)
    monkeypatch.setattr("biopsy.training.memory.available_bytes", lambda: step_bytes(model, 40))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(MachineError, match=r"train\.batch=32 would fit; with train\.accumulate=4"):
        check_batch(model, 128)
    check_batch(model, 40)


def test_a_processor_without_the_kernels_of_a_precision_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it was with mixed_bfloat16 and ONEDNN_MAX_CPU_ISA=AVX2 on a processor with AVX-512."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    said = "Status: 3, message: could not create a primitive descriptor for the convolution forward propagation"
    with (
        pytest.raises(MachineError, match=r"ONEDNN_MAX_CPU_ISA=AVX2.*float32.*Set train\.precision"),
        limits_in_words(model, 2),
    ):
        raise RuntimeError(said)


def test_a_frozen_backbone_needs_less_memory_than_one_that_trains(tmp_path: Path) -> None:
    file = tmp_path / "w.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    frozen = build_model(Model(backbone="mobilenetv2", weights=str(file), trainable="none"), 128, 8)
    whole = build_model(Model(backbone="mobilenetv2"), 128, 8)
    assert step_bytes(frozen, 16) < step_bytes(whole, 16) / 5


def test_a_card_of_an_earlier_version_is_one_sentence(tmp_path: Path) -> None:
    """It held `size` and `stain`, and not how a file becomes pixels."""
    earlier = CARD.model_dump(mode="json", exclude={"preparation"}) | {"size": 32, "stain": {"method": "none"}}
    (tmp_path / "model.json").write_text(json.dumps(earlier))
    with pytest.raises(SourceError, match=r"model\.json was written by an earlier version.*dvc repro"):
        read_card(tmp_path)
