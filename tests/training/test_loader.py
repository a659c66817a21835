"""The input pipeline: order and pixels are functions of the seed; only training images change."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from biopsy.core.errors import DataError
from biopsy.core.params import parse_params
from biopsy.core.sections.train import Augment
from biopsy.networks.backend import seed_everything
from biopsy.tables.split.parts import read_images, read_parts
from biopsy.training.inputs.batches import plain_set, training_set
from biopsy.training.inputs.feed import PixelFeed
from biopsy.training.inputs.loader import (
    ImageStore,
    batches_of,
    epoch_order,
    training_items,
)
from tiny import make_project

TURNS = Augment(every={"flip": True, "rot90": True})
STILL = Augment()


@pytest.fixture
def store() -> ImageStore:
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3)).astype(np.uint8)
    return ImageStore.whole(images)


TARGETS = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 1])


def epochs_of(store: ImageStore, augment: Augment, epochs: range, seed: int = 0) -> list[np.ndarray]:
    items = training_items(TARGETS, augment, "binary")
    batches = training_set(store, items, augment, "binary", classes=2, batch=4, seed=seed, epochs=epochs)
    return [images.numpy() for images, _ in batches]


def test_a_resumed_run_sees_what_the_unbroken_run_saw(store: ImageStore) -> None:
    whole, rest = epochs_of(store, TURNS, range(0, 4)), epochs_of(store, TURNS, range(2, 4))
    for expected, found in zip(whole[6:], rest, strict=True):
        np.testing.assert_array_equal(expected, found)


def test_each_epoch_holds_every_image_once_in_another_order(store: ImageStore) -> None:
    batches = epochs_of(store, STILL, range(0, 2))
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert len(first) == len(second) == 10
    assert not np.array_equal(first, second)
    as_sets = [Counter(image.tobytes() for image in epoch) for epoch in (first, second)]
    assert as_sets[0] == as_sets[1] == Counter(i.astype(np.float32).tobytes() for i in store.array)


@pytest.mark.parametrize(
    ("n", "batch", "sizes"),
    [
        (8, 4, [4, 4]), (9, 4, [4, 5]), (10, 4, [4, 4, 2]), (5, 4, [5]), (3, 2, [3]), (5, 2, [2, 3]),
        (3, 8, [3]), (1, 4, [1]), (3, 1, [1, 1, 1]),
    ],
)  # fmt: skip
def test_no_batch_holds_one_image_alone_and_every_image_comes_once(n: int, batch: int, sizes: list[int]) -> None:
    images = np.zeros((n, 8, 8, 3), np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None, None]
    store, params = ImageStore.whole(images), parse_params({})
    items = training_items(np.zeros(n, int), STILL, "binary")
    for extra in (None, np.arange(n, dtype=np.float32)[:, None]):
        feed = PixelFeed(store, items, np.zeros(0, int), params, "binary", 2, batch, extra)
        feed = replace(feed, params=params.model_copy(update={"augment": STILL}))
        epochs = [inputs for inputs, _ in feed.train(range(2))]
        pixels = [given["pixels"] if isinstance(given, dict) else given for given in epochs]
        assert [len(batch) for batch in pixels] == sizes * 2
        assert len(sizes) == batches_of(n, batch)
        for epoch in (pixels[: len(sizes)], pixels[len(sizes) :]):
            assert sorted(np.concatenate(epoch)[:, 0, 0, 0].tolist()) == list(range(n))
        for given in epochs if extra is not None else []:
            np.testing.assert_array_equal(given["pixels"][:, 0, 0, 0], given["extra"][:, 0])


def test_another_seed_gives_another_order(store: ImageStore) -> None:
    assert not np.array_equal(epochs_of(store, STILL, range(1))[0], epochs_of(store, STILL, range(1), seed=1)[0])


def test_rows_of_a_larger_array_give_the_same_batches(store: ImageStore) -> None:
    rows = np.random.default_rng(0).permutation(20)[: len(store)]
    larger = np.zeros((20, *store.shape[1:]), np.uint8)
    larger[rows] = store.array
    larger.flags.writeable = False
    found = ImageStore(larger, rows)
    assert found.shape == store.shape
    assert found.sha256() == store.sha256()
    for one, other in zip(epochs_of(store, TURNS, range(2)), epochs_of(found, TURNS, range(2)), strict=True):
        np.testing.assert_array_equal(one, other)
    validation = [i for i, _ in plain_set(found, TARGETS[6:], classes=2, start=6, batch=3)]
    np.testing.assert_array_equal(np.concatenate(validation), store.array[6:])


def test_tiles_of_an_image_come_one_after_the_other() -> None:
    array = np.arange(5 * 3 * 12, dtype=np.uint8).reshape(5, 3, 2, 2, 3)
    tiles = ImageStore(array, np.array([4, 1])).tiles()
    np.testing.assert_array_equal(tiles[:], array[[4, 1]].reshape(6, 2, 2, 3))
    np.testing.assert_array_equal(tiles.part(slice(3, None))[0], array[1, 0])


def test_validation_images_are_never_changed(store: ImageStore) -> None:
    batches = [images for images, _ in plain_set(store, TARGETS[6:], classes=2, start=6, batch=3)]
    np.testing.assert_array_equal(np.concatenate(batches), store.array[6:])


def test_the_minority_is_doubled_and_only_its_copies_are_jittered(store: ImageStore) -> None:
    augment = Augment(double_minority=True, copies={"binary": {"brightness": 0.5}})
    items = training_items(TARGETS, augment, "binary")
    assert items.target[items.copy].tolist() == [0, 0, 0]
    assert len(items) == 13
    seen = Counter(image.tobytes() for image in np.concatenate(epochs_of(store, augment, range(1))))
    originals = Counter(image.astype(np.float32).tobytes() for image in store.array)
    assert originals <= seen
    assert len(seen - originals) == 3


CASES = np.array(["a"] * 6 + ["b"] + ["c"] * 2 + ["a"])  # one case may hold images of two classes
OF_CLASS = np.array([0] * 7 + [1] * 3)


def test_by_case_an_epoch_draws_each_case_of_a_class_and_each_image_of_a_case_equally_often(store: ImageStore) -> None:
    items = training_items(OF_CLASS, STILL, "binary", CASES)
    for epoch in range(5):
        drawn = epoch_order(len(items), 0, epoch, items.groups)
        counts = Counter(zip(OF_CLASS[drawn].tolist(), CASES[drawn].tolist(), strict=True))
        assert sorted(counts[0, case] for case in "ab") == [3, 4]
        assert sorted(counts[1, case] for case in "ca") == [1, 2]
        assert set(np.bincount(drawn, minlength=10)[:6]) <= {0, 1}
    assert not np.array_equal(drawn, epoch_order(len(items), 0, 3, items.groups))
    seen = np.concatenate([epoch_order(len(items), 0, epoch, items.groups) for epoch in range(20)])
    assert set(seen) == set(range(10))
    data = training_set(store, items, STILL, "binary", classes=2, batch=4, seed=0, epochs=range(4, 5))
    images = np.concatenate([images for images, _ in data])
    np.testing.assert_array_equal(images, store.array[drawn])


def test_by_case_copies_of_a_minority_are_drawn_with_their_case() -> None:
    augment = Augment(double_minority=True, copies={"binary": {"flip": True}})
    items = training_items(OF_CLASS, augment, "binary", CASES)
    drawn = epoch_order(len(items), 0, 0, items.groups)
    assert np.bincount(items.target[drawn]).tolist() == [7, 6]
    assert Counter(CASES[items.index[drawn[items.target[drawn] == 1]]].tolist()) == {"a": 3, "c": 3}


def test_doubling_names_its_task() -> None:
    augment = Augment(double_minority=True, copies={"binary": {"flip": True}})
    assert not training_items(TARGETS, augment, "multiclass").copy.any()


def test_tensorflow_makes_no_copy_of_all_images(tmp_path: Path) -> None:
    seed_everything(0)  # its graph is then rewritten
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(2000, 128, 128, 3))  # 98 MB
    mapped[:] = 1
    store = ImageStore.whole(mapped)
    items, process = training_items(TARGETS, STILL, "binary"), psutil.Process()
    before = process.memory_info().rss
    batches = training_set(store, items, STILL, "binary", classes=2, batch=4, seed=0, epochs=range(1))
    validation = plain_set(store, TARGETS, classes=2, start=0, batch=4)
    taken = [process.memory_info().rss - before for part in (batches, validation) for _ in part]
    assert max(taken) < store.array.nbytes / 2


def read_parts_of(root: Path, task: str = "binary"):
    classes = ("benign", "malignant")
    labels, split = root / "data/interim/labels.csv", root / "data/splits/case.csv"
    return read_parts(labels, split, root / "data/resized", task, classes)


def test_a_missing_or_wrong_image_is_named_with_the_way_out(tmp_path: Path) -> None:
    make_project(tmp_path)
    files = list(read_parts_of(tmp_path)["file"])
    with pytest.raises(DataError, match=r"is 32x32 pixels, not 64x64\. Run `dvc repro`\."):
        read_images(files[:1], 64)
    files[0].write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be read.*dvc repro"):
        read_images(files, 32)


def test_an_image_without_a_label_of_the_task_is_named(tmp_path: Path) -> None:
    make_project(tmp_path)
    labels = tmp_path / "data/interim/labels.csv"
    labels.write_text("".join(line for line in labels.read_text().splitlines(True) if "DC-003" not in line))
    with pytest.raises(DataError, match="DC-003"):
        read_parts_of(tmp_path)
