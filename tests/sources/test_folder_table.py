"""Data sets that have no CSV: the folder of an image is its label."""

import re
from pathlib import Path

import pandas as pd
import pytest
from raw import draw, png

from biopsy.core.errors import DataError, SourceError
from biopsy.core.outside import own_names, watch
from biopsy.core.sections.data import Columns, Data, Ingest, Split
from biopsy.sources.fetch import fill, outside_paths
from biopsy.sources.kinds.local import Local
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.metadata import read_metadata
from biopsy.tables.split.given import read_given
from biopsy.tables.split.splits import make_split
from schemes import params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    return tmp_path


def fetched(project: Path, *names: str) -> pd.DataFrame:
    """Write a data set of these images, fetch it, and return the table."""
    for i, name in enumerate(names):
        (project / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "mine" / name).write_bytes(png(draw(i)))
    fill(data(project), project / "data/raw", project / "downloads")
    return pd.read_csv(project / "data/raw/metadata.csv", dtype=str, keep_default_na=False)


def data(project: Path) -> Data:
    return Data(source="local", local=Local(images=str(project / "mine")))


def from_csv(**labels: object) -> LabelScheme:
    task = {"column": "label", "classes": "from_csv"}
    own = {"name": "from_csv", "grammar": None, "tasks": {"label": task}, **labels}
    return LabelScheme.of(params(tasks=["label"], labels=own).labels)


def test_the_folder_that_holds_an_image_is_its_label_and_goes_through_the_map(project: Path) -> None:
    table = fetched(project, "p7/0/a.png", "p7/1/a.png", "p8/1/.ipynb_checkpoints/a.png", "# p8/1/b.png")
    assert table[["path_to_image", "label", "folder1"]].to_numpy().tolist() == [
        ["# p8/1/b.png", "1", "# p8"],
        ["p7/0/a.png", "0", "p7"],
        ["p7/1/a.png", "1", "p7"],
    ]
    read = read_metadata(
        project / "data/raw/metadata.csv",
        Ingest(columns=Columns(case="folder1")),
        from_csv(map={"0": "benign", "1": "malignant"}),
        list(table["path_to_image"]),
    )
    assert read.table["label"].tolist() == ["malignant", "benign", "malignant"]
    assert read.table["case"].tolist() == ["# p8", "p7", "p7"]


def test_the_folders_above_the_label_are_named_where_one_of_them_may_be_the_class(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched(project, "set/train/A/100X/p1/a.png", "set/train/DC/40X/p2/b.png", "set/test/A/40X/p3/c.png")
    told = capsys.readouterr().err
    assert "the label is the innermost folder (p1, p2, p3)" in told
    assert "labels.tasks.label.column: folder3 (A, DC); folder4 (100X, 40X)." in told
    assert "folder1 (" not in told  # one folder around all


def test_one_level_of_folders_needs_no_word(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched(project, "set/train/a/1.png", "set/train/b/2.png", "set/test/a/3.png")
    assert capsys.readouterr().err == ""


def test_folders_called_as_parts_are_the_split_and_no_label(project: Path) -> None:
    names = [f"{part}/{label}/{i}.png" for part in ("Train", "test_set") for label in "ab" for i in range(2)]
    names += ["valid/group/a/0.png", "b/validation/0.png"]
    table = fetched(project, *names).set_index("path_to_image")
    assert table.loc["valid/group/a/0.png", ["label", "split"]].tolist() == ["a", "val"]
    assert table.loc["b/validation/0.png", ["label", "split"]].tolist() == ["b", "val"]
    images = pd.DataFrame({"image_id": table.index, "row": range(2, len(table) + 2)})
    parts = read_given(project / "data/raw/metadata.csv", images, Split(column="split"), Ingest())
    assert parts.value_counts().to_dict() == {"train": 4, "test": 4, "val": 2}


@pytest.mark.parametrize("flat", ["c.png", "train/c.png"])
def test_images_without_a_folder_of_a_class_are_one_sentence(project: Path, flat: str) -> None:
    with pytest.raises(
        SourceError, match=rf"mine: 1 of 2 images lie in no folder of a class \({flat}\).*data\.local\.csv"
    ):
        fetched(project, "a/b.png", flat)


def test_where_all_images_are_hidden_none_is_found(project: Path) -> None:
    with pytest.raises(SourceError, match=r"no image lies below .*mine \(1 in a hidden folder\)"):
        fetched(project, ".a/1.png")


def test_images_at_two_depths_of_one_folder_are_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched(project, "a/1.png", "a/cropped/2.png", "b/1.png")
    assert "there are images in a/cropped and in a folder above it" in capsys.readouterr().err


DRAWN = ["a/benign (1)_mask.png", "a/benign (1)_mask_1.png", "b/x_1_anno.bmp", "b/x-Label.png", "b/x-explained.png"]


@pytest.mark.parametrize(
    ("drawn", "told"),
    [([], ""), (DRAWN, r"5 of 11 images are called as a mask or an overlay of another \(a/benign \(1\)_mask\.png")],
)
def test_masks_beside_their_images_are_a_warning(
    project: Path, capsys: pytest.CaptureFixture[str], drawn: list[str], told: str
) -> None:
    fetched(project, "a/benign (1).png", "b/x_1.jpg", "b/x_2.jpg", "b/x.png", "b/label.png", "a/tumor_seg.png", *drawn)
    said = capsys.readouterr().err
    assert re.search(told, said)
    assert told or "mask" not in said.replace(str(project), "")


def test_folders_called_as_no_class_is_are_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched(project, "images/1.png", "Ground_truth/1.png", "masks/tumor/1.png")
    told = capsys.readouterr().err
    assert "mine: each folder of images is taken as a class, also Ground_truth, images. Where" in told
    assert "data.local.csv" in told


def test_errors_about_the_labels_name_the_users_folder(project: Path) -> None:
    with watch("fetch", outside_paths(data(project))):
        fetched(project, "a/1.png", "a/2.png")
    with watch("fetch", outside_paths(data(project))), pytest.raises(DataError) as caught:
        read_metadata(Path("data/raw/metadata.csv"), Ingest(), from_csv())
    assert own_names(str(caught.value)).startswith(f"{project}/mine: column 'label' holds one value, 'a'")


def test_without_patients_the_case_protocol_says_what_to_do(project: Path) -> None:
    table = fetched(project, *[f"{label}/{i}.png" for label in "ab" for i in range(4)])
    labels = table.assign(
        image_id=table["path_to_image"], path=table["path_to_image"], case="", pixels_sha256=table.index
    )
    with pytest.raises(
        DataError, match=r"8 of 8 images have no case.*folder1.*take 'case' out of `protocols`.*\[image\]"
    ):
        make_split(labels, ["label"], "case", Split(), 0)
