"""One Preparation: the pixels that a card's record gives from an original file are those of the tree."""

import itertools
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stained import tissue

from biopsy.core.errors import DataError
from biopsy.core.sections.data import Resize, Stain, Tiles
from biopsy.images.decode import ImageError, hash_pixels, read_rgb
from biopsy.images.preparation.record import Preparation, Stains, read_preparation, suited
from biopsy.images.prepare import prepare
from biopsy.images.resized_tree import resize_all
from biopsy.images.stained_tree import stain_all
from biopsy.tables.split.parts import read_images

STAINS = ("none", "reinhard", "macenko")
WAYS = [
    (mode, structure, stain)
    for mode, structure, stain in itertools.product(
        ("stretch", "pad", "crop", "tiles"), ("rgb", "grayscale", "laplacian"), STAINS
    )
    if structure == "rgb" or stain == "none"  # the parameters allow no other
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Four stained images of unequal size, and one of glass alone, which keeps its own stain."""
    folder, rows = tmp_path_factory.mktemp("originals"), []
    for i, (height, width) in enumerate([(64, 64), (64, 50), (50, 64), (40, 40), (64, 64)]):
        image = tissue(i, strength=0.7 + 0.1 * i)[-height:, :width]
        image = np.full_like(image, 250) if i == 4 else image
        Image.fromarray(image).save(folder / f"{i}.png")
        rows.append((f"i{i}", f"{i}.png", hash_pixels(image), "train" if i < 3 else "test"))
    return pd.DataFrame(rows, columns=["image_id", "path", "pixels_sha256", "part"]).assign(folder=str(folder))


@pytest.mark.parametrize(("mode", "structure", "stain"), WAYS)
def test_preparing_an_original_file_gives_the_pixels_of_the_tree(
    originals: pd.DataFrame, tmp_path: Path, mode: str, structure: str, stain: str
) -> None:
    resize = Resize.model_validate(
        {"size": 32, "mode": mode, "structure": structure, "tiles": {"px": 20, "rows": 2, "columns": 2}}
    )
    folder, tree = Path(originals["folder"][0]), tmp_path / "resized"
    resize_all(originals, folder, tree, tmp_path / "resume", Preparation(max_pixels=10**6, resize=resize))
    if stain != "none":
        resized, tree = tree, tmp_path / "case"
        stain_all({"": originals}, resized, tree, tmp_path / "resume", Stain(method=stain), read_preparation(resized))
    record = Preparation.model_validate_json(read_preparation(tree).model_dump_json())  # as a card keeps it
    assert (record.stain.method if record.stain else "none") == stain
    files = [tree / f"{image_id}.png" for image_id in originals["image_id"]]
    made = read_images(files, 32, record.views).reshape(len(files), record.views, 32, 32, 3)
    for path, pixels in zip(originals["path"], made, strict=True):
        np.testing.assert_array_equal(prepare(folder / path, record), pixels)
        np.testing.assert_array_equal(prepare((folder / path).read_bytes(), record), pixels)


def test_real_images_are_prepared_as_the_tree_holds_them(real_data: Path, tmp_path: Path) -> None:
    paths = sorted(real_data.rglob("*.png"))[::140]
    rows = [
        (path.stem, str(path.relative_to(real_data)), hash_pixels(read_rgb(path, 10**7)), "train") for path in paths
    ]
    table = pd.DataFrame(rows, columns=["image_id", "path", "pixels_sha256", "part"])
    plain = Preparation(max_pixels=10**7, resize=Resize(size=64, mode="tiles"))
    resize_all(table, real_data, tmp_path / "resized", tmp_path / "resume", plain)
    for stain in STAINS[1:]:
        stain_all({"": table}, tmp_path / "resized", tmp_path / stain, tmp_path / "resume", Stain(method=stain), plain)
        made = read_images([tmp_path / stain / f"{path.stem}.png" for path in paths], 64, 6)
        record = read_preparation(tmp_path / stain)
        np.testing.assert_array_equal(np.concatenate([prepare(path, record) for path in paths]), made)


def test_an_image_below_the_least_size_is_one_sentence_with_its_name(tmp_path: Path) -> None:
    least, small = Preparation(max_pixels=1_000, min_size=8, resize=Resize(size=32)), np.zeros((7, 9, 3), np.uint8)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), small)
    for source, name in ((path, path), (path.read_bytes(), "the image"), (small, "the image")):
        with pytest.raises(ImageError, match=f"^{re.escape(str(name))} has 9x7 pixels; ingest.min_size is 8$"):
            prepare(source, least)
    assert prepare(np.zeros((8, 9, 3), np.uint8), least).shape == (1, 32, 32, 3)


def test_differences_name_each_parameter_that_differs() -> None:
    one = Preparation(max_pixels=10, min_size=8, resize=Resize(mode="tiles", tiles=Tiles(px=64)))
    stain = Stains(method="reinhard", directions=(1.0, 2.0, 3.0), spreads=(1.0, 1.0, 1.0))
    other = Preparation(max_pixels=20, resize=Resize(structure="grayscale"), stain=stain)
    found = one.differences(other)
    for words in (
        "resize.mode: tiles, not stretch",
        "resize.structure: rgb, not grayscale",
        "stain: none, not reinhard",
    ):
        assert words in found
    assert "ingest.max_pixels: 10, not 20; ingest.min_size: 8, not 1" in found
    assert "resize.tiles" in found
    assert one.differences(one) == ""
    warmer = stain.model_copy(update={"spreads": (1.0, 1.0, 2.0)})
    assert other.differences(other.model_copy(update={"stain": warmer})) == "stain: fitted otherwise"


def test_an_image_smaller_than_a_tile_is_answered_by_a_model_of_tiles(tmp_path: Path) -> None:
    Image.fromarray(tissue()).save(tmp_path / "a.png")
    tiled = Resize(size=32, mode="tiles", tiles=Tiles(px=65, rows=2, columns=3))
    views = prepare(tmp_path / "a.png", Preparation(max_pixels=10**6, resize=tiled))
    whole = prepare(tmp_path / "a.png", Preparation(max_pixels=10**6, resize=Resize(size=32)))
    np.testing.assert_array_equal(views, np.repeat(whole, 6, axis=0))


@pytest.mark.parametrize(
    ("mode", "sides", "suits"),
    [
        ("tiles", [230, 96], "stretch"),
        ("tiles", [231, 96], "tiles"),
        ("pad", [96, 96], "pad"),
    ],
)
def test_images_no_longer_than_a_tile_are_stretched_to_one_view(mode: Any, sides: list[int], suits: str) -> None:
    found = suited(Resize(mode=mode), sides)
    assert found == Resize(mode=suits)  # type: ignore[arg-type]


def test_what_cannot_be_prepared_is_one_sentence(tmp_path: Path) -> None:
    Image.fromarray(tissue()).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png has 4,096 pixels, more than"):
        prepare(tmp_path / "a.png", Preparation(max_pixels=1000))
    with pytest.raises(ImageError, match="the image is not an image"):
        prepare(b"hello", Preparation(max_pixels=1000))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"max_pixels": 1, "colour": 2}', '{"max_pixels": 1, "resize": {"size": 9}}']
)
def test_a_record_that_is_not_ours_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "preparation.json").write_text(content)
    with pytest.raises(DataError, match=r"preparation\.json does not say how images were made.*dvc repro"):
        read_preparation(tmp_path)
