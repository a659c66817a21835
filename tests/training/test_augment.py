"""Augmentations of one image: every entry of the registry, by name, keeps shape, type and range, and obeys its seed."""

import numpy as np
import pytest
import yaml

from biopsy.core.errors import ParamsError
from biopsy.networks.backend import tf
from biopsy.training.augment.pipeline import augment_image
from biopsy.training.augment.registry import OPERATIONS, Operation, check_strengths, register
from conftest import ROOT

STRENGTHS = {name: operation.example for name, operation in OPERATIONS.items()}
COMBINATIONS = [{}, STRENGTHS, *({name: strength} for name, strength in STRENGTHS.items())]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("strengths", COMBINATIONS, ids=lambda s: "+".join(s) if len(s) < 2 else "all")
def test_an_image_keeps_shape_type_and_range_and_eager_equals_tf_data(image: np.ndarray, strengths: dict) -> None:
    checked = check_strengths(strengths, "augment.every")
    seeds = tf.constant([[3, draw] for draw in range(12)])
    mapped = tf.data.Dataset.from_tensor_slices(seeds).map(
        lambda seed: augment_image(tf.constant(image), seed, checked), tf.data.AUTOTUNE
    )
    assert mapped.element_spec == tf.TensorSpec((16, 16, 3), tf.float32)
    graph = list(mapped.as_numpy_iterator())
    for again, one in zip(mapped.as_numpy_iterator(), graph, strict=True):
        np.testing.assert_array_equal(again, one)
    for seed, one in list(zip(seeds, graph, strict=True))[:4]:
        eager = augment_image(tf.constant(image), seed, checked)
        assert eager.dtype == tf.float32
        np.testing.assert_allclose(eager, one, atol=2e-3)
    assert 0 <= np.min(graph) <= np.max(graph) <= 255
    assert len({one.tobytes() for one in graph}) > 1 or not strengths  # another seed, other pixels
    assert strengths or np.array_equal(graph[0], image.astype(np.float32))


def test_flips_and_turns_move_pixels_but_make_none(image: np.ndarray) -> None:
    seen = set()
    for draw in range(40):
        moved = augment_image(tf.constant(image), tf.constant([0, draw]), {"flip": True, "rot90": True}).numpy()
        assert sorted(moved.reshape(-1, 3).tolist()) == sorted(image.reshape(-1, 3).tolist())
        seen.add(moved.tobytes())
    assert len(seen) == 8  # the eight symmetries of a square


def test_what_is_off_is_left_out_and_turns_come_first_masks_last() -> None:
    strengths = {"erasing": 0.5, "randaugment": {"n": 1, "m": 1}, "contrast": 0.1, "flip": True, "rot90": False}
    assert list(check_strengths(strengths, "k")) == ["flip", "contrast", "randaugment", "erasing"]


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ({"flp": True}, "augment.every.flp.*Did you mean 'flip'"),
        ({"brightness": 1.5}, "augment.every.brightness.*less than 1.*1.5"),
        ({"flip": "yes"}, "augment.every.flip.*boolean.*'yes'"),
        ({"erasing": 1.1}, "augment.every.erasing.*less than or equal to 1.*1.1"),
        ({"randaugment": {"n": 12, "m": 9}}, "augment.every.randaugment.n.*at most 11.*11 operations.*Got 12"),
        ({"randaugment": {"n": 2, "m": 31}}, "augment.every.randaugment.m.*less than or equal to 30.*31"),
        ({"randaugment": {"n": 2}}, "augment.every.randaugment.m.*required"),
        ({"randaugment": {"n": 2, "m": 9, "k": 1}}, "augment.every.randaugment.k.*not permitted"),
        ({"randaugment": True}, "augment.every.randaugment.*dictionary.*Got True"),
        ({"medaugment": {"level": 6}}, "augment.every.medaugment.level.*less than or equal to 5.*6"),
        ({"medaugment": {"level": 0}}, "augment.every.medaugment.level.*greater than or equal to 1.*0"),
    ],
)
def test_an_unknown_name_or_a_value_out_of_range_is_one_sentence(strengths: dict, words: str) -> None:
    with pytest.raises(ParamsError, match=words) as error:
        check_strengths(strengths, "augment.every")
    assert "\n" not in str(error.value)


def test_the_test_part_has_no_way_to_an_augmentation() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert "augment" not in stages["evaluate"]["params"]
    rooms = [dep for dep in stages["evaluate"]["deps"] if dep.startswith("biopsy/")]  # all that it needs: test_rooms.py
    assert "biopsy/tables/split" in rooms
    assert not [dep for dep in rooms if dep.startswith("biopsy/training")]


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register(Operation("flip", bool, lambda image, seed, strength: image, "Again.", True))
