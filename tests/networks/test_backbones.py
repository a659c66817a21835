"""Every backbone of the registry, in one pass each: its family's network, weights that fit, it learns and lasts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from biopsy.core.sections.model import Head, Model
from biopsy.networks.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD, caffe_style, tf_style, torch_style
from biopsy.networks.backbones.registry import BACKBONES
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model, count_weights
from biopsy.networks.features import split_model
from biopsy.networks.model_file import load_model, save_model
from cards import CARD
from conftest import ROOT

A = keras.applications
# The family's own network, and its own preprocessing (None: inside the network).
STOCK: dict[str, tuple[Callable[..., Any], Callable[[Any], Any] | None]] = {
    "convnext_tiny": (A.ConvNeXtTiny, None),
    "densenet121": (A.DenseNet121, A.densenet.preprocess_input),
    "efficientnetb0": (A.EfficientNetB0, None),
    "efficientnetv2s": (A.EfficientNetV2S, None),
    "mobilenetv2": (A.MobileNetV2, A.mobilenet_v2.preprocess_input),
    "nasnetmobile": (A.NASNetMobile, A.nasnet.preprocess_input),
    "resnet50": (A.ResNet50, A.resnet.preprocess_input),
    "vgg19": (A.VGG19, A.vgg19.preprocess_input),
}
# Weights of a network of our own, by hand.
#   cnn: kernels 25*3*16 + 9*(16*32 + 32*48 + 48*64 + 64*96), batch norms 4 * (16 + 32 + 48 + 64 + 96).
#   mednext: stem 3c + c of c = 32; a block of c channels (R = 2, k = 3) has 9c + c, 2c, 2cc + 2c, 2cc + c; the one that
#     halves 9c + c, 2c, 2cc + 2c, 4cc + 2c, 2cc + 2c. Two blocks of 32, 64, 128, 256, 512, and four between.
#   hybrid: kernels 9 * (3*32 + 32*32 + 32*64 + 64*64 + 64*128 + 128*128 + 128*192 + 192*192), batch norms
#     8 * (32 + 64 + 128 + 192); an encoder of d = 192 has 4d (norms), 4dd + 4d (attention), 8dd + 5d (MLP); 10d, 2d.
#   resnet34: torchvision's 21,797,672 less its classifier's 513,000, and 17,024 moving figures, uncounted there.
#   torch_resnet50: 25,557,032 - 2,049,000 + 53,120. torch_mobilenetv2: 3,504,872 - 1,281,000 + 34,112.
COUNTS = {
    "cnn": 1200 + 9 * (512 + 1536 + 3072 + 6144) + 4 * 256,
    "cnn_small": 1200 + 9 * (512 + 2048 + 6144) + 4 * 208,
    "mednext": 128 + sum(2 * (4 * c * c + 15 * c) for c in (32, 64, 128, 256, 512))
    + sum(8 * c * c + 18 * c for c in (32, 64, 128, 256)),
    "hybrid": 9 * 93_280 + 8 * 416 + 4 * (12 * 192 * 192 + 13 * 192) + 12 * 192,
    "resnet34": 21_301_696,
    "cerberus": 21_301_696,
    "torch_resnet50": 23_561_152,
    "torch_mobilenetv2": 2_257_984,
}  # fmt: skip
LASTING = ("efficientnetb0", "mobilenetv2", "vgg19")  # Keras saves its own networks: one of each style of preprocessing
LINEAR = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False, dropout=0)
DRAWN = {name for name, entry in BACKBONES.items() if not entry.is_file}  # test_encoder.py has the others
# A bias before a norm of each channel by itself, and that of the keys (the same on every logit), change nothing.
WITHOUT_EFFECT = ("_depthwise/bias", "attention/key/bias")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


def reference(name: str, images: np.ndarray, file: Path) -> tuple[int, np.ndarray]:
    """Draw Keras's own network, make all its weights unlike, save them; return their number and its pooled features."""
    application, preprocess = STOCK[name]
    model = application(include_top=False, weights=None, input_shape=(32, 32, 3))
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(weight + rng.uniform(0, 0.2, weight.shape))
    if name == "efficientnetb0":
        norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
        # Keras's own file has the deviation where the variance belongs, and a second division by its root.
        norm.set_weights([np.array(IMAGENET_MEAN), np.array(IMAGENET_STD), np.array(0)])
        model.save_weights(file)
        norm.set_weights([np.array(IMAGENET_MEAN), np.square(IMAGENET_STD), np.array(0)])
        norm.finalize_state()
    else:
        model.save_weights(file)
    count = count_weights(model)[0]
    if name == "densenet121":
        model = keras.Model(model.input, model.get_layer("conv5_block16_concat").output)
        count -= 4 * 1024  # its last norm is left to the head
    pixels = preprocess(images.copy()) if preprocess else images
    return count, np.asarray(model(pixels)).mean((1, 2))


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_backbone_is_its_familys_network_learns_and_lasts(name: str, images: np.ndarray, tmp_path: Path) -> None:
    seed_everything(0)
    weights = "none"
    if name in STOCK:
        weights = str(tmp_path / "stock.weights.h5")
        count, expected = reference(name, images, Path(weights))
    model = build_model(Model(backbone=name, weights=weights, head=LINEAR), 32, 8)
    extractor, _ = split_model(model)
    if name in STOCK:
        found = np.asarray(extractor(images))
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))
        assert expected.std() > 1e-3
    assert count_weights(extractor)[0] == (count if name in STOCK else COUNTS[name])

    assert not any(isinstance(layer, (keras.layers.Lambda, keras.Model)) for layer in model.layers)
    config = json.loads(model.to_json())
    assert all(layer["module"].startswith("keras.") for layer in config["config"]["layers"])  # stock: no code of ours

    if name not in STOCK:  # Keras tests its own
        gradients = learn(model, images)
        assert all(gradient is not None and np.isfinite(gradient).all() for gradient in gradients.values())
        unreached = {path for path, gradient in gradients.items() if not np.abs(gradient).max() > 1e-12}
        assert not {path for path in unreached if not path.endswith(WITHOUT_EFFECT)}

    if name not in STOCK or name in LASTING:
        save_model(model, tmp_path, CARD)
        loaded, _ = load_model(tmp_path)
        np.testing.assert_array_equal(loaded(images), model(images))


def learn(model: Any, images: np.ndarray) -> dict[str, Any]:
    """One forward pass as in training; the gradient of each trainable weight, by its path."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = -keras.ops.mean(keras.ops.log(model(images, training=True)[:, 3]))
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    paths = [weight.path for weight in model.trainable_weights]
    return {p: None if g is None else np.asarray(g) for p, g in zip(paths, found, strict=True)}


def test_the_table_of_this_test_and_the_registry_agree() -> None:
    assert set(STOCK) | set(COUNTS) >= DRAWN, "give a new backbone's weights in COUNTS, or its family in STOCK"
    assert {name for name, entry in BACKBONES.items() if entry.has_imagenet} == set(STOCK)


def test_each_backbone_has_its_preset() -> None:
    presets = (OmegaConf.load(path) for path in (ROOT / "conf/model").glob("*.yaml"))
    assert {preset.get("backbone", "cnn") for preset in presets} == set(BACKBONES)


@pytest.mark.parametrize(
    ("layer", "family"),
    [(tf_style, A.mobilenet_v2), (tf_style, A.nasnet), (torch_style, A.densenet), (caffe_style, A.resnet),
     (caffe_style, A.vgg19)],
)  # fmt: skip
def test_preprocessing_inside_the_model_is_the_familys_own(layer: Any, family: Any, images: np.ndarray) -> None:
    pixels = keras.Input((32, 32, 3))
    inside = keras.Model(pixels, layer(pixels))
    np.testing.assert_allclose(inside(images), family.preprocess_input(images.copy()), atol=1e-4)
    assert not inside.weights


def test_a_frozen_backbone_gives_in_training_what_it_gives_elsewhere_and_stays_as_it_is(
    images: np.ndarray, tmp_path: Path
) -> None:
    """EfficientNetB0 has all that could differ: batch norms, and blocks dropped at random."""
    seed_everything(0)
    file = tmp_path / "b0.weights.h5"
    A.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    model = build_model(Model(backbone="efficientnetb0", weights=str(file), trainable="none", head=LINEAR), 32, 8)
    extractor, _ = split_model(model)
    before = extractor.get_weights()
    np.testing.assert_array_equal(extractor(images, training=True), extractor(images, training=False))
    for old, new in zip(before, extractor.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [weight.path for weight in model.trainable_weights] == ["probabilities/kernel", "probabilities/bias"]


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("trainable", ["all", 5])
def test_batch_norms_are_frozen_where_asked(freeze: bool, trainable: str | int, images: np.ndarray) -> None:
    seed_everything(0)
    model = build_model(Model(backbone="cnn", trainable=trainable, freeze_batch_norm=freeze, head=LINEAR), 32, 8)
    norm, conv = model.get_layer("block5_bn"), model.get_layer("block5_conv")
    before = [np.copy(w) for w in norm.get_weights()], np.copy(conv.get_weights()[0])
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(images, np.eye(8)[:3])
    changed = [not np.array_equal(a, b) for a, b in zip(before[0], norm.get_weights(), strict=True)]
    assert changed == ([False] * 4 if freeze else [True] * 4)
    assert not np.array_equal(before[1], conv.get_weights()[0])
    assert bool(model.get_layer("block1_conv").trainable_weights) == (trainable == "all")
    assert len([w for w in model.trainable_weights if "_bn" in w.path]) == (
        0 if freeze else 10 if trainable == "all" else 6
    )
