"""The contact sheet shows what a training sees, and `biopsy show-augment` draws it before anything is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biopsy.cli import command
from biopsy.core.errors import BiopsyError
from biopsy.core.files import write_csv
from biopsy.core.params import Params, parse_params
from biopsy.core.sections.data import Resize
from biopsy.images.preparation.record import Preparation, write_preparation
from biopsy.images.resize import draw_structure
from biopsy.training.contact_sheet import describe, draw_tiles, write_sheet
from biopsy.training.inputs.feed import PixelFeed
from biopsy.training.inputs.loader import ImageStore, training_items
from conftest import ROOT

TARGETS = np.array([0, 1, 1, 1, 0, 1, 1, 1])
CLASSES = ["benign", "malignant"]


@pytest.fixture
def store() -> ImageStore:
    return ImageStore.whole(np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3)).astype(np.uint8))


def parameters(augment: dict[str, Any]) -> Params:
    return parse_params({"augment": augment, "train": {"class_weights": "none"}})


def test_the_tiles_are_the_pixels_that_the_training_sees_and_validation_stays_as_it_is(store: ImageStore) -> None:
    params = parameters({"every": {"flip": True, "stain_jitter": 0.1, "erasing": 1.0}})
    tiles = draw_tiles(store, TARGETS, params, "binary", CLASSES)
    assert [tile.caption for tile in tiles] == ["original, benign", *(f"epoch {i}" for i in range(1, 16))]
    np.testing.assert_array_equal(tiles[0].pixels, store.array[0])
    items = training_items(TARGETS, params.augment, "binary")
    feed = PixelFeed(store, items, np.array([0, 1]), params, "binary", 2, batch=4)
    seen = [
        np.rint(image).astype(np.uint8).tobytes() for images, _ in feed.train(range(15)) for image in images.numpy()
    ]
    for epoch, tile in enumerate(tiles[1:]):
        assert tile.pixels.tobytes() in seen[8 * epoch : 8 * epoch + 8]
    unchanged = np.concatenate([images for images, _ in feed.validation()])
    np.testing.assert_array_equal(unchanged, store.array[8:])


def test_where_the_minority_is_doubled_half_of_the_tiles_show_the_copy(store: ImageStore) -> None:
    params = parameters({"double_minority": True, "copies": {"binary": {"brightness": 0.4}}})
    tiles = draw_tiles(store, TARGETS, params, "binary", CLASSES)
    assert [tile.caption for tile in tiles[6:10]] == ["epoch 6", "epoch 7", "copy, epoch 1", "copy, epoch 2"]
    same = [np.array_equal(tile.pixels, store.array[0]) for tile in tiles]
    assert same == [True] * 8 + [False] * 8


def test_mixed_tiles_say_what_they_hold(store: ImageStore) -> None:
    tiles = draw_tiles(store, np.arange(8), parameters({"mix": {"mixup": 1.0}}), "multiclass", list("ABCDEFGH"))
    words = [tile.caption.split(": ")[1].replace(",", "").split() for tile in tiles[1:]]
    assert all(found[0] == "A" for found in words)  # the larger share is the image's own
    assert all(sum(map(float, found[1::2])) == pytest.approx(1, abs=0.011) for found in words)
    assert len({found[2] for found in words if len(found) > 2}) > 2


def test_a_sheet_names_what_is_on_and_equal_parameters_give_equal_bytes(store: ImageStore, tmp_path: Path) -> None:
    params = parameters(
        {"every": {"rot90": True, "flip": False, "randaugment": {"n": 2, "m": 9}}, "mix": {"cutmix": 1}}
    )
    assert describe(params.augment, "binary") == "rot90, randaugment n=2 m=9; cutmix 1"
    assert describe(parameters({}).augment, "binary") == "no augmentation"
    for name in ("a", "b"):
        write_sheet(store, TARGETS, params, "binary", CLASSES, "title", tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (4 * 198 + 6, 28 + 4 * 212 + 6)  # 32 px, shown six times as large


def test_without_augmentation_the_image_is_drawn_once_and_not_sixteen_times(store: ImageStore, tmp_path: Path) -> None:
    write_sheet(store, TARGETS, parameters({}), "binary", CLASSES, "title", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (4 * 198 + 6, 28 + 212 + 6)


@pytest.fixture
def project(tmp_path: Path, set_params: Callable[..., Path]) -> Path:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    set_params({"resize.size": 64})
    table = pd.DataFrame({"image_id": [str(number) for number in range(6)], "subtype": ["A", "DC"] * 3})
    table["path"], table["class"] = table["image_id"] + ".png", "x"
    table["width"] = table["height"] = 300
    write_csv(tmp_path / "data/interim/labels.csv", table)
    (tmp_path / "data/resized").mkdir()
    made_with(tmp_path)
    for number in range(6):
        path = tmp_path / f"data/resized/{number}.png"
        cv2.imwrite(str(path), np.full((64, 64, 3), 30 * number + 50, np.uint8))
    return tmp_path


def test_show_augment_draws_an_experiment_or_the_parameters_in_force(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(["show-augment", "mixup", "-S", "resize.size=64", "-S", "augment=none", "--root", str(project)])
    assert capsys.readouterr().out == f"wrote {project}/plots/augment-mixup.png\n"
    command(["show-augment", "--root", str(project)])
    assert (project / "plots/augment-current.png").is_file()


def test_show_augment_draws_a_sample_where_there_are_no_images_yet(project: Path, tmp_path: Path) -> None:
    for path in (project / "data/resized").rglob("*.png"):
        path.unlink()
    out = tmp_path / "sheet.png"
    command(["show-augment", "--root", str(project), "--out", str(out)])
    with Image.open(out) as sheet:
        assert len(sheet.getcolors(2**20) or []) > 1000


COLOURED = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def sheet_of(
    project: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, task: str = "multiclass"
) -> tuple[np.ndarray, str, list[str]]:
    """Draw a sheet; return its images as the trainings would see them, its title and its classes."""
    seen: list[Any] = []
    monkeypatch.setattr("biopsy.experiments.show_augment.write_sheet", lambda *given: seen.extend(given))
    command(["show-augment", *arguments, "-S", "resize.size=64", "--task", task, "--root", str(project)])
    return seen[0].array, seen[5], seen[4]


def made_with(project: Path, **resize: Any) -> None:
    """Say in the tree how its images were made."""
    resize = {"size": 64} | resize
    write_preparation(project / "data/resized", Preparation(max_pixels=10**6, resize=Resize.model_validate(resize)))


def write_tree(project: Path, image: np.ndarray) -> None:
    for path in (project / "data/resized").rglob("*.png"):
        cv2.imwrite(str(path), image[..., ::-1])


@pytest.mark.parametrize("structure", ["rgb", "grayscale", "laplacian"])
def test_a_sheet_shows_the_structure_that_the_stage_resize_draws(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, structure: str
) -> None:
    """Whatever it is drawn from: a folder, a tree in colours, the tree of the experiment itself, originals."""
    option = ("-S", f"resize.structure={structure}")
    wanted = draw_structure(COLOURED, structure)
    (tmp_path / "mine/A").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "mine/A/i.png"), COLOURED[..., ::-1])
    images = sheet_of(project, monkeypatch, *option, "--images", str(tmp_path / "mine"))[0]
    np.testing.assert_array_equal(images[0], wanted)
    for made in ("rgb", structure):
        write_tree(project, draw_structure(COLOURED, made))
        made_with(project, structure=made)
        images, title, _ = sheet_of(project, monkeypatch, *option)
        np.testing.assert_array_equal(images[0], wanted)
        assert title == f"current, {project}/data/resized"


def test_a_tree_that_cannot_give_what_the_experiment_sees_is_named_and_others_are_drawn(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(project, draw_structure(COLOURED, "grayscale"))
    made_with(project, structure="grayscale")
    edges = ("-S", "resize.structure=laplacian")
    np.testing.assert_array_equal(sheet_of(project, monkeypatch, *edges)[0][0], draw_structure(COLOURED, "laplacian"))
    images, title, _ = sheet_of(project, monkeypatch, "-S", "seed=1")
    assert title.startswith("current, a drawn sample; ")
    assert "data/resized cannot be used: it was made with other parameters (grayscale, stretch, 64 px)" in title
    assert capsys.readouterr().out.endswith(f"; {title.partition('; ')[2]}\n")
    assert np.ptp(images.astype(int), axis=3).max() > 50
    # The edges of a larger image are others.
    made_with(project, structure="laplacian", size=128)
    assert "(laplacian, stretch, 128 px)" in sheet_of(project, monkeypatch, *edges)[1]
    # What was ingested comes before the sample.
    (project / "data/raw/images").mkdir(parents=True)
    cv2.imwrite(str(project / "data/raw/images/x.png"), COLOURED[..., ::-1])
    rows = {
        "image_id": ["0", "gone"],
        "path": ["x.png", "gone.png"],
        "binary": ["benign", "malignant"],
        "multiclass": ["", "DC"],
        "width": ["64", "64"],
        "height": ["64", "64"],
    }
    write_csv(project / "data/interim/labels.csv", pd.DataFrame(rows))
    for task, label in (("binary", "benign"), ("multiclass", "unlabelled")):
        images, title, classes = sheet_of(project, monkeypatch, "-S", "seed=1", task=task)
        np.testing.assert_array_equal(images, COLOURED[None])
        assert title.startswith(f"current, {project}/data/raw/images; ")
        assert classes == [label]


def test_a_sheet_says_that_normalised_stain_is_not_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    title = sheet_of(project, monkeypatch, "macenko")[1]
    assert title == f"macenko, {project}/data/resized; stain normalisation (macenko) is not shown"
    assert capsys.readouterr().out.endswith("augment-macenko.png; stain normalisation (macenko) is not shown\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mixpu"], ["'mixpu'", "Did you mean 'mixup'?"]),
        (["mixup", "-S", "augment=randaugmnt"], ["randaugmnt", "randaugment"]),
        (["mixup", "-S", "train.class_weights=balanced"], ["class_weights"]),
        (["randaugment", "-S", "augment.every.randaugment.n=20"], ["augment.every.randaugment.n", "at most 11", "20"]),
        (["flips", "--images", "nowhere"], ["nowhere", "no PNG"]),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(project: Path, arguments: list[str], words: list[str]) -> None:
    with pytest.raises(BiopsyError) as error:
        command(["show-augment", *arguments, "--root", str(project)])
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_of_tiles_a_sheet_shows_one_from_the_middle_of_each_image(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = {"px": 64, "rows": 1, "columns": 3}
    made_with(project, mode="tiles", tiles=tiles)
    stack = np.concatenate([np.full((64, 64, 3), value, np.uint8) for value in (10, 20, 30)])
    write_tree(project, stack)
    options = ("resize.mode=tiles", *(f"resize.tiles.{key}={value}" for key, value in tiles.items()))
    images, title, _ = sheet_of(project, monkeypatch, *(word for option in options for word in ("-S", option)))
    assert title == f"current, {project}/data/resized"
    assert (images == 20).all()
