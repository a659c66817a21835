"""Weights of a backbone: from Keras's server, from a file that is checked, and what is said where neither will do."""

import functools
import http.server
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.files import sha256
from biopsy.core.params import parse_params
from biopsy.core.sections.model import Model
from biopsy.networks import build
from biopsy.networks.backbones.weights_file import load_weights_file
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model, check_model
from conftest import ROOT

SOURCES = {
    "mobilenetv2": ("mobilenet_v2.BASE_WEIGHT_PATH", r"mobilenet_v2_weights\S+_no_top\.h5"),
    "resnet50": ("resnet.BASE_WEIGHTS_PATH", r"resnet50_weights\S+_notop\.h5"),
    "vgg19": ("vgg19.WEIGHTS_PATH_NO_TOP", r"nowhere"),
}


def mobilenet(**kwargs: Any) -> Any:
    return keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3), **kwargs)


def legacy(file: Path, model: Any) -> None:
    with h5py.File(file, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, model)


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a folder on this machine, and let Keras keep its downloads beside it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *a: None)
    (folder / "home").mkdir()  # where it is missing, Keras writes to /tmp/.keras, for all that come later
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(folder / "home"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("answer", ["404", "refused"])
def test_weights_that_cannot_be_downloaded_say_which_file_to_place_where(
    name: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant, file = SOURCES[name]
    with serving(tmp_path, monkeypatch) as url:
        base = url if answer == "404" else "http://127.0.0.1:9/"
        monkeypatch.setattr(f"keras.src.applications.{constant}", base + ("nowhere" if file == "nowhere" else ""))
        with pytest.raises(SourceError, match=rf"{file} cannot be downloaded. .*place it in \S+models.*model\.weights"):
            build_model(Model(backbone=name, weights="imagenet"), 96, 2)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(tmp_path, monkeypatch):
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", address)
        with pytest.raises(SourceError, match="the download of 'imagenet' was given up"):
            build_model(Model(backbone="mobilenetv2", weights="imagenet"), 96, 2)
    assert socket.getdefaulttimeout() is None


def test_imagenet_weights_come_from_the_server_that_keras_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loading code; weights differ from Keras's in their numbers alone."""
    seed_everything(1)
    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    legacy(tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", source)
    with serving(tmp_path, monkeypatch) as url:
        monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", url)
        model = build_model(Model(backbone="mobilenetv2", weights="imagenet", trainable="none"), 96, 2)
    np.testing.assert_array_equal(model.get_layer("Conv1").get_weights(), source.get_layer("Conv1").get_weights())


@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_weights_from_a_file_are_the_weights_of_the_model(kind: str, tmp_path: Path) -> None:
    """Of Keras 3, and of Keras 2 as its server has them."""
    seed_everything(5)
    file, source = tmp_path / f"mobilenet{kind}", mobilenet()
    source.save_weights(file) if kind == ".weights.h5" else legacy(file, source)
    model = build_model(Model(backbone="mobilenetv2", weights=str(file), trainable="none"), 32, 2)
    for layer in source.layers[1:]:
        for expected, found in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(expected, found)


def test_the_real_imagenet_weights_fit() -> None:
    folder = Path(os.environ.get("BIOPSY_REAL_WEIGHTS", ROOT.parent / "shared" / "weights"))
    file = folder / "mobilenet_v2_imagenet_notop.weights.h5"
    if not file.is_file():
        pytest.skip(f"no real weights at {folder} (set BIOPSY_REAL_WEIGHTS)")
    chosen = Model(backbone="mobilenetv2", weights=str(file), weights_sha256=sha256(file), trainable="none")
    assert check_model(chosen, 96).name == "mobilenetv2"
    kernel = build_model(chosen, 96, 2).get_layer("Conv1").get_weights()[0]
    assert np.abs(kernel).max() > 1  # learnt filters; fresh ones stay below 0.2


def test_a_file_that_does_not_fit_names_the_layer_and_both_shapes(tmp_path: Path) -> None:
    network = mobilenet()
    mobilenet(alpha=0.5).save_weights(tmp_path / "half.weights.h5")
    legacy(tmp_path / "half.h5", mobilenet(alpha=0.5))
    build_model(Model(), 32, 8).save_weights(tmp_path / "cnn.weights.h5")
    legacy(tmp_path / "top.h5", keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=4))
    network.save_weights(tmp_path / "hidden.h5.weights.h5")
    (tmp_path / "hidden.h5.weights.h5").rename(tmp_path / "hidden.h5")
    (tmp_path / "junk.weights.h5").write_bytes(b"hello")
    (tmp_path / "torch.pth").touch()
    for name, words in {
        "half.weights.h5": r"layer Conv1 is \(3, 3, 3, 16\) in the file and \(3, 3, 3, 32\) in the network",
        "half.h5": r"layer Conv1 is \(3, 3, 3, 16\) in the file and \(3, 3, 3, 32\) in the network",
        "cnn.weights.h5": r"layer Conv1 is \(5, 5, 3, 16\) in the file .* Is the file of another backbone\?",
        "top.h5": r"has 105 layers with weights, the network has 104\. Take the file without the classifier",
        "hidden.h5": r"Rename it to hidden\.weights\.h5",
        "junk.weights.h5": "is not a weights file of Keras",
        "torch.pth": r"`biopsy convert-weights \S+torch\.pth",
    }.items():
        with pytest.raises(SourceError, match=words):
            load_weights_file(network, tmp_path / name)
    with pytest.raises(SourceError, match=r"does not fit model\.backbone"):
        build_model(Model(backbone="mobilenetv2", weights=str(tmp_path / "cnn.weights.h5")), 32, 2)


ODD_FILES: dict[str, Callable[[Any], Any]] = {
    "layers is a dataset": lambda file: file.create_dataset("layers", data=[1.0]),
    "a layer is a dataset": lambda file: file.create_dataset("layers/conv2d", data=[1.0]),
    "layer_names are numbers": lambda file: file.attrs.update(layer_names=[1, 2]),
    "layer_names is a number": lambda file: file.attrs.update(layer_names=7),
    "layer_names name nothing": lambda file: file.attrs.update(layer_names=["nothing"]),
    "layer_names are no text": lambda file: file.attrs.update(layer_names=np.array([b"\xff\xfe"])),
    "model_weights is a dataset": lambda file: file.create_dataset("model_weights", data=[1.0]),
    "weight_names are numbers": lambda file: (
        file.attrs.update(layer_names=["a"]), file.create_group("a").attrs.update(weight_names=[3])
    ),
    "weight_names name a group": lambda file: (
        file.attrs.update(layer_names=["a"]), file.create_group("a/b"), file["a"].attrs.update(weight_names=["b"])
    ),
    "nothing": lambda file: None,
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD_FILES)
@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_an_hdf5_file_of_another_make_is_one_sentence(odd: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"odd{kind}"
    with h5py.File(path, "w") as file:
        ODD_FILES[odd](file)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(SourceError, match=rf"model\.weights: \S*odd{kind} "):
        load_weights_file(network, path)


def test_a_file_that_lacks_layers_does_not_leave_them_random(tmp_path: Path) -> None:
    build_model(Model(), 32, 8).save_weights(tmp_path / "cnn.weights.h5")
    with h5py.File(tmp_path / "cnn.weights.h5", "a") as file:
        del file["layers/conv2d_3"]
    with pytest.raises(SourceError, match="layer block4_conv is missing in the file"):
        build_model(Model(weights=str(tmp_path / "cnn.weights.h5")), 32, 2)


def test_a_file_other_than_the_one_that_was_meant_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.weights.h5"
    build_model(Model(), 32, 8).save_weights(file)
    right = Model(weights=str(file), weights_sha256=sha256(file))
    check_model(right, 32)
    with pytest.raises(
        SourceError, match=rf"w\.weights\.h5 has SHA-256 {sha256(file)}, model\.weights_sha256 says 0000"
    ):
        check_model(right.model_copy(update={"weights_sha256": "0" * 64}), 32)
    with pytest.raises(ParamsError, match=r"model\.weights_sha256 is the hash of a file, and model\.weights is 'none'"):
        parse_params({"model": {"weights_sha256": "0" * 64}})


@pytest.mark.parametrize("key", ["batch_norm", "feature_norm"])
def test_a_batch_of_one_with_batch_norm_in_the_head_is_refused(key: str) -> None:
    off = {"batch_norm": False, "feature_norm": False}
    parse_params({"train": {"batch": 1}, "model": {"head": off}})
    with pytest.raises(ParamsError, match=r"train\.batch is 1, and the batch norms of model\.head"):
        parse_params({"train": {"batch": 1}, "model": {"head": off | {key: True}}})
