"""MixUp and CutMix: images and labels are mixed alike, as functions of (seed, epoch, batch)."""

import numpy as np
import pytest

from biopsy.core.errors import ParamsError
from biopsy.core.params import parse_params
from biopsy.core.sections.train import Augment, Mix
from biopsy.networks.backend import tf
from biopsy.training.augment.mix import beta, mix_batch
from biopsy.training.inputs.batches import plain_set, training_set
from biopsy.training.inputs.loader import ImageStore, encode_targets, training_items

KINDS = [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}]
TARGETS = np.arange(11) % 4


@pytest.fixture
def store() -> ImageStore:
    return ImageStore.whole(np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3)).astype(np.uint8))


def epochs_of(store: ImageStore, mix: dict, epochs: range, classes: int = 4, seed: int = 0) -> list:
    augment = Augment(every={"flip": True}, mix=Mix(**mix))
    targets = TARGETS if classes > 2 else TARGETS % 2
    items = training_items(targets, augment, "binary")
    batches = training_set(store, items, augment, "binary", classes=classes, batch=4, seed=seed, epochs=epochs)
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


@pytest.mark.parametrize("mix", KINDS, ids="+".join)
def test_mixed_labels_sum_to_one_and_of_one_output_stay_within_0_and_1(store: ImageStore, mix: dict) -> None:
    softmax = np.concatenate([labels for _, labels in epochs_of(store, mix, range(3))])
    np.testing.assert_allclose(softmax.sum(axis=1), 1, atol=1e-6)
    assert softmax.min() >= 0
    assert np.any((softmax > 0.01) & (softmax < 0.99))
    binary = np.concatenate([labels for _, labels in epochs_of(store, mix, range(3), classes=2)])
    assert binary.shape == (33, 1)
    assert 0 <= binary.min() <= binary.max() <= 1
    assert np.any((binary > 0.01) & (binary < 0.99))


@pytest.mark.parametrize("mix", KINDS, ids="+".join)
def test_a_resumed_run_mixes_as_the_unbroken_run_did_and_another_seed_otherwise(store: ImageStore, mix: dict) -> None:
    whole, rest = epochs_of(store, mix, range(4)), epochs_of(store, mix, range(2, 4))
    assert [len(images) for images, _ in whole] == [4, 4, 3] * 4
    for expected, found in zip(whole[6:], rest, strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(whole[0][0], epochs_of(store, mix, range(1), seed=1)[0][0])
    assert whole[0][0].dtype == np.float32
    assert min(images.min() for images, _ in whole) >= 0
    assert max(images.max() for images, _ in whole) <= 255


@pytest.mark.parametrize("mix", KINDS[:2], ids="+".join)
def test_labels_are_mixed_by_the_share_of_the_pixels(mix: dict) -> None:
    shade = np.array([0, 50, 100, 150, 200, 250], np.float32)
    images = tf.constant(np.ones((6, 32, 32, 3), np.float32) * shade[:, None, None, None])
    targets = tf.constant(np.eye(6, dtype=np.float32))
    for draw in range(20):
        pixels, labels = mix_batch(images, targets, tf.constant([3, draw]), Mix(**mix))
        np.testing.assert_allclose(tf.reduce_mean(pixels, (1, 2, 3)), labels.numpy() @ shade, atol=1e-2)
        if "cutmix" in mix:
            assert set(np.unique(pixels)) <= set(shade)  # pasted, not blended


def test_eager_equals_tf_data(store: ImageStore) -> None:
    images, targets = store.array[:4].astype(np.float32), encode_targets(TARGETS[:4], 4)
    mix, seed = Mix(mixup=0.4, cutmix=1.0), [1, 2]
    batches = tf.data.Dataset.from_tensors((images, targets)).map(lambda i, t: mix_batch(i, t, tf.constant(seed), mix))
    for one, other in zip(
        mix_batch(tf.constant(images), tf.constant(targets), tf.constant(seed), mix), next(iter(batches)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.001, 0.4, 10.0])
def test_shares_follow_the_beta_distribution_and_a_tiny_alpha_gives_no_nan(alpha: float) -> None:
    drawn = beta(tf.constant([0, 1]), 20_000, alpha).numpy()
    assert np.all((drawn >= 0) & (drawn <= 1))
    if alpha > 0.1:
        assert drawn.mean() == pytest.approx(0.5, abs=0.02)
        assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_validation_images_and_labels_are_never_mixed(store: ImageStore) -> None:
    batches = list(plain_set(store, TARGETS[6:], classes=4, start=6, batch=3))
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), store.array[6:])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), encode_targets(TARGETS[6:], 4))


def test_mixing_with_class_weights_or_stored_features_is_refused_with_the_way_out() -> None:
    for mix in KINDS:
        with pytest.raises(ParamsError, match=r"train.class_weights is 'balanced'.*augment.mix.*class_weights to none"):
            parse_params({"augment": {"mix": mix}})
        parse_params({"augment": {"mix": mix}, "train": {"class_weights": "none"}})
        with pytest.raises(ParamsError, match=r"feature_views to null"):
            parse_params({"augment": {"mix": mix}, "model": {"trainable": "none", "feature_views": 8}})
