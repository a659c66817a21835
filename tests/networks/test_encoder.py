"""An encoder as backbone: what the head sees of it, and that nothing of its file is forgotten."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.files import sha256
from biopsy.core.sections.model import Encoder, Features, Head, Model
from biopsy.networks.backbones import encoder as encoder_layer
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model, count_weights
from biopsy.networks.encoder_file import NAME
from biopsy.networks.features import split_model
from biopsy.networks.model_file import load_model, save_model
from biopsy.training.inputs.image_features import image_features
from cards import CARD
from tiny_onnx import SIZE, encoder

PROBE = Head(kind="probe", feature_norm=False, units=0, unit_norm=False, batch_norm=False)
CENTRE, SPREAD = [0.5, 0.4, 0.3], [0.1, 0.2, 0.4]


def network(path: Path, content: bytes, tiles: int = 1, **change: Any) -> Any:
    path.write_bytes(content)
    seed_everything(0)
    about = {"backbone": "onnx", "weights": str(path), "trainable": "none", "head": PROBE, **change}
    return build_model(Model(**about), SIZE, 8, tiles=tiles)


@pytest.mark.parametrize(("kind", "tiles"), [("uint8", 1), ("float", 2)])
def test_the_head_sees_the_mean_vector_of_an_images_tiles_and_the_model_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tiles: int
) -> None:
    normalise = Encoder(mean=CENTRE, std=SPREAD)
    model = network(tmp_path / "e.onnx", encoder(kind), tiles, encoder=normalise, features=Features(pool="sd"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, tiles, SIZE, SIZE, 3)).astype(np.float32)
    asked = pixels if tiles > 1 else pixels[:, 0]
    means = (pixels if kind == "uint8" else (pixels / 255 - CENTRE) / SPREAD).mean((2, 3))
    vectors = np.concatenate([means, 2 * means], axis=2)
    expected = np.concatenate([vectors.mean(1), np.sqrt(vectors.var(1) + 1e-6)], axis=1)
    np.testing.assert_allclose(split_model(model)[0].predict_on_batch(asked), expected, rtol=1e-4, atol=1e-3)
    assert count_weights(keras.Model(model.input, model.get_layer("head_pool").output)) == (0, 0)
    card = CARD.model_copy(update={"params": {"model": {"backbone": "onnx"}}})
    save_model(model, tmp_path, card)
    first = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "e.onnx").unlink()
    monkeypatch.delitem(keras.saving.get_custom_objects(), "biopsy>OnnxEncoder")  # as in another process
    loaded, _ = load_model(tmp_path)
    np.testing.assert_array_equal(loaded.predict_on_batch(asked), model.predict_on_batch(asked))
    save_model(model, tmp_path, card)
    assert (tmp_path / "model.keras").read_bytes() == first


def test_another_file_or_another_mean_gives_other_features_and_the_same_one_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)
    path = tmp_path / "e.onnx"
    for content, change, new in (
        (encoder("float"), {}, True),
        (encoder("float"), {}, False),
        (encoder("float"), {"encoder": Encoder(mean=CENTRE)}, True),
        (encoder("float", opset=16), {}, True),
    ):
        model = network(path, content, **change)
        assert model.get_layer("encoder").sha256 == sha256(path)
        image_features(split_model(model)[0], images, "x")
        assert ("5 of them new" in capsys.readouterr().out) == new


def named(name: str) -> bytes:
    """An encoder that says which one it is."""
    made = onnx.load_from_string(encoder())
    onnx.helper.set_model_props(made, {NAME: name})
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("content", "change", "kind", "words"),
    [
        (b"none", {}, SourceError, r"^model\.weights: .*e\.onnx is not an ONNX file"),
        (encoder(size=48), {}, ParamsError, r"e\.onnx takes images of 48 pixels, and resize\.size is 32\. Set resize"),
        (encoder(), {"features": Features(layers=["block1"])}, ParamsError, r"'block1' is not there"),
        (named("uni"), {}, ParamsError, r"is the encoder uni, and model\.encoder\.name is null\. Set it to uni"),
        (encoder(), {"weights_sha256": "0" * 64}, SourceError, r"e\.onnx has SHA-256 .*model\.weights_sha256 says"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence_with_its_path(
    tmp_path: Path, content: bytes, change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        network(tmp_path / "e.onnx", content, **change)


def test_a_model_whose_encoder_cannot_run_here_says_so_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(tmp_path / "e.onnx", encoder())
    save_model(model, tmp_path, CARD.model_copy(update={"params": {"model": {"backbone": "onnx"}}}))

    def too_new(content: bytes) -> None:
        raise ValueError("is too new")

    monkeypatch.setattr(encoder_layer, "EncoderFile", too_new)
    with pytest.raises(SourceError, match=r"model\.keras: its encoder is too new\.$"):
        load_model(tmp_path)


def test_a_path_below_home_is_found_and_what_is_no_file_says_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "e.onnx").write_bytes(encoder())
    about = {"backbone": "onnx", "trainable": "none", "head": PROBE}
    build_model(Model(**about, weights="~/e.onnx"), SIZE, 8)
    for name, what in (("", "is a folder"), ("/none.onnx", "does not exist")):
        with pytest.raises(SourceError, match=rf"^model\.weights: ~{name} {what}\. Set it to an \.onnx file\.$"):
            build_model(Model(**about, weights=f"~{name}"), SIZE, 8)
