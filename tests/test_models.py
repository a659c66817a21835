"""Every backbone of the registry: built, saved, loaded in safe mode; its preprocessing is its family's own."""

import functools
import http.server
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from biopsy.backend import keras, seed_everything, tf
from biopsy.errors import MachineError, ParamsError, SourceError
from biopsy.memory import check_batch, step_bytes
from biopsy.model_file import Card, load_model, save_model
from biopsy.models.applications import tf_style, torch_style
from biopsy.models.build import build_model, check_model, count_weights
from biopsy.models.registry import BACKBONES, Backbone, register
from biopsy.sections import Head, Model

CARD = Card(
    task="multiclass", protocol="case", classes=list("abcdefgh"), size=32, preprocessing="x", threshold=0.5,
    synthetic=True, backbone_weights_sha256=None, data={}, params={}, keras=keras.__version__,
)  # fmt: skip


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("classes", [2, 8])
def test_a_saved_model_loads_in_safe_mode_and_predicts_the_same(
    name: str, classes: int, images: np.ndarray, tmp_path: Path
) -> None:
    seed_everything(0)
    model = build_model(Model(backbone=name), 32, classes)
    save_model(model, tmp_path, CARD)
    loaded, card = load_model(tmp_path)
    np.testing.assert_array_equal(loaded.predict_on_batch(images), model.predict_on_batch(images))
    assert model.output_shape == (None, 1 if classes == 2 else classes)
    assert card.classes == CARD.classes
    assert not any(isinstance(layer, (keras.layers.Lambda, keras.Model)) for layer in model.layers)


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


@pytest.mark.parametrize(
    ("layer", "family"),
    [(tf_style, keras.applications.mobilenet_v2), (torch_style, keras.applications.densenet)],
)
def test_preprocessing_inside_the_model_is_the_familys_own(layer: Any, family: Any, images: np.ndarray) -> None:
    expected = family.preprocess_input(images.copy())
    np.testing.assert_allclose(layer(images), expected, atol=1e-5)


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


def test_weights_from_a_file_are_the_weights_of_the_model(tmp_path: Path) -> None:
    seed_everything(5)
    file = tmp_path / "mobilenet.weights.h5"
    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    source.save_weights(file)
    model = build_model(Model(backbone="mobilenetv2", weights=str(file), trainable="none"), 32, 2)
    for layer in source.layers[1:]:
        for expected, found in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(expected, found)


def test_weights_that_cannot_be_downloaded_say_which_file_to_place_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(SourceError, match=r"mobilenet_v2_weights\S+no_top\.h5 .*models.*model\.weights"):
        build_model(Model(backbone="mobilenetv2", weights="imagenet"), 96, 2)


def test_imagenet_weights_come_from_the_server_that_keras_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loading code against a server on this machine; weights differ from Keras's in their numbers alone."""
    seed_everything(1)
    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    with h5py.File(tmp_path / name, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, source)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *a: None)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path / "home"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", url)
        model = build_model(Model(backbone="mobilenetv2", weights="imagenet", trainable="none"), 96, 2)
        server.shutdown()
    np.testing.assert_array_equal(model.get_layer("Conv1").get_weights(), source.get_layer("Conv1").get_weights())


def test_weights_of_another_network_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "other.weights.h5"
    build_model(Model(), 32, 8).save_weights(file)
    with pytest.raises(SourceError, match=r"other\.weights\.h5 does not fit mobilenetv2"):
        build_model(Model(backbone="mobilenetv2", weights=str(file)), 32, 8)


def test_an_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"cnn, densenet121, mobilenetv2.*Did you mean 'densenet121'\?"):
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
    (tmp_path / "model.json").write_text('{"a": 1}')
    with pytest.raises(SourceError, match="does not describe a model"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text(CARD.model_dump_json())
    with pytest.raises(SourceError, match="dvc pull"):
        load_model(tmp_path)


def test_a_batch_that_memory_cannot_hold_names_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(Model(), 64, 8)
    monkeypatch.setattr("biopsy.memory.available_bytes", lambda: step_bytes(model, 40))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(MachineError, match=r"train\.batch=32 would fit; with train\.accumulate=4"):
        check_batch(model, 128)
    check_batch(model, 40)


def test_a_frozen_backbone_needs_less_memory_than_one_that_trains(tmp_path: Path) -> None:
    file = tmp_path / "w.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    frozen = build_model(Model(backbone="mobilenetv2", weights=str(file), trainable="none"), 128, 8)
    whole = build_model(Model(backbone="mobilenetv2"), 128, 8)
    assert step_bytes(frozen, 16) < step_bytes(whole, 16) / 5
