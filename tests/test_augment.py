"""Augmentations of one image: every entry of the registry, by name, keeps shape, type and range, and obeys its seed."""

import numpy as np
import pytest

from biopsy.augment.pipeline import augment_image
from biopsy.augment.registry import OPERATIONS, Operation, check_strengths, register
from biopsy.backend import tf
from biopsy.errors import ParamsError

# A strength for each entry; a new entry without one fails the first test below.
STRENGTHS = {"flip": True, "rot90": True, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)


def test_each_entry_has_a_strength_to_be_tested_with() -> None:
    assert set(STRENGTHS) == set(OPERATIONS)


@pytest.mark.parametrize(
    "strengths", [{}, STRENGTHS, *({k: v} for k, v in STRENGTHS.items())], ids=lambda s: "+".join(s)
)
def test_an_image_keeps_shape_type_and_range_and_eager_equals_graph(image: np.ndarray, strengths: dict) -> None:
    checked = check_strengths(strengths, "augment.every")
    graph = tf.function(lambda i, s: augment_image(i, s, checked))
    for draw in range(5):
        seed = tf.constant([3, draw])
        eager = augment_image(tf.constant(image), seed, checked)
        np.testing.assert_allclose(eager, graph(tf.constant(image), seed), atol=1e-3)
        np.testing.assert_array_equal(eager, augment_image(tf.constant(image), seed, checked))
        assert eager.dtype == tf.float32
        assert eager.shape == (16, 16, 3)
        assert 0 <= float(tf.reduce_min(eager)) <= float(tf.reduce_max(eager)) <= 255


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_entry_changes_something_and_another_seed_changes_it_otherwise(image: np.ndarray, name: str) -> None:
    checked = check_strengths({name: STRENGTHS[name]}, "augment.every")
    seen = {augment_image(tf.constant(image), tf.constant([0, s]), checked).numpy().tobytes() for s in range(12)}
    assert len(seen) > 1
    assert seen != {image.astype(np.float32).tobytes()}


def test_flips_and_turns_move_pixels_but_make_none(image: np.ndarray) -> None:
    seen = set()
    for draw in range(40):
        moved = augment_image(tf.constant(image), tf.constant([0, draw]), {"flip": True, "rot90": True}).numpy()
        assert sorted(moved.reshape(-1, 3).tolist()) == sorted(image.reshape(-1, 3).tolist())
        seen.add(moved.tobytes())
    assert len(seen) == 8  # the eight symmetries of a square


def test_what_is_off_is_left_out_and_the_order_is_the_registrys() -> None:
    assert list(check_strengths({"contrast": 0.1, "flip": True, "rot90": False}, "k")) == ["flip", "contrast"]


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ({"flp": True}, "augment.every.flp.*Did you mean 'flip'"),
        ({"brightness": 1.5}, "augment.every.brightness.*less than 1.*1.5"),
        ({"flip": "yes"}, "augment.every.flip.*boolean.*'yes'"),
    ],
)
def test_an_unknown_name_or_a_value_out_of_range_is_one_sentence(strengths: dict, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        check_strengths(strengths, "augment.every")


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register(Operation("flip", bool, lambda image, seed, strength: image, "Again."))
