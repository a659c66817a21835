"""Protocol `given`: the parts that the user's own CSV states."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from label_tables import MANY

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.sections.data import Columns, Ingest, Split
from biopsy.tables.split.given import read_given, unused_column
from biopsy.tables.split.splits import make_split
from biopsy.tables.split.summary import check_split, summarise
from schemes import BREAKHIS, TASKS, params

COLUMNS = Ingest(columns=Columns(path="file"))


def given(tmp_path: Path, rows: list[str], **settings: Any) -> list[str]:
    """The parts of the images of a CSV `file,fold` in the order of its rows."""
    csv = tmp_path / "metadata.csv"
    csv.write_text("file,fold\n" + "\n".join(rows) + "\n")
    images = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(rows))], "row": range(2, len(rows) + 2)})
    return read_given(csv, images, Split(column="Fold", **settings), COLUMNS).tolist()


def test_the_usual_words_are_read_in_any_case_and_others_by_the_map(tmp_path: Path) -> None:
    words = ["Train", "VAL", "valid", "Validation", "dev", "TEST", "n/a", ""]
    rows = [f"{i}.png,{word}" for i, word in enumerate(words)]
    assert given(tmp_path, rows) == ["train", *["val"] * 4, "test", "", ""]
    by_number = Split.model_validate({"map": {0: "train", 1: "val", 2: "test"}}).map
    assert given(tmp_path, ["a.png,0", "b.png,1.0", "c.png,2"], map=by_number) == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("file,set\na.png,train\nb.png,TEST\nc.png,\n", "set"),
        ("file,set\na.png,Training\nb.png,test_set\nc.png,valid\n", "set"),
        ("file,set\na.png,train\nb.png,val\n", ""),
        ("file,set\na.png,train\nb.png,test\nc.png,fold 3\n", ""),
        ("file,label\na.png,benign\n", ""),
    ],
)
def test_a_column_of_parts_is_noticed(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert unused_column(tmp_path / "a.csv", COLUMNS) == name


def test_a_word_that_is_no_part_names_its_rows_and_the_map(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv: 1 row with a word in 'Fold'.*row 3: '3'.*map=\{3: train"):
        given(tmp_path, ["a.png,train", "b.png,3"])


def test_an_image_in_two_rows_has_one_part(tmp_path: Path) -> None:
    assert given(tmp_path, ["a.png,", "./a.png,test", "b.png,train"]) == ["test", "test", "train"]
    with pytest.raises(DataError, match=r"row 4 puts a\.png into test, and row 2 into train"):
        given(tmp_path, ["a.png,train", "b.png,val", "a.png,test"])


def test_rows_are_told_apart_by_a_path_that_is_made_of_columns(tmp_path: Path) -> None:
    csv, settings = tmp_path / "metadata.csv", Ingest(columns=Columns(path="{p}/{x}.png"))
    csv.write_text("p,x,fold\n1,2,train\n2,2,test\n2,2,\n")
    images = pd.DataFrame({"image_id": ["a", "b", "c"], "row": [2, 3, 4]})
    assert read_given(csv, images, Split(column="fold"), settings).tolist() == ["train", "test", "test"]
    csv.write_text("p,x,fold\n1,2,train\n2,2,test\n2,2,train\n")
    with pytest.raises(DataError, match=r"row 4 puts 2/2\.png into train, and row 3 into test"):
        read_given(csv, images, Split(column="fold"), settings)


def test_the_stated_parts_are_kept_and_their_leak_is_counted_not_hidden() -> None:
    stated = ["train", "val", "test"] * (len(MANY) // 3)
    table = MANY.assign(given=stated)
    split = make_split(table, TASKS, "given", Split(column="fold"), 0)
    check_split(table, split, "given")
    assert table.merge(split, on="image_id").eval("given == part").all()
    said = summarise(table, split, "given", BREAKHIS)
    assert said["test_images_seen"]["cases"] > 50
    assert "test images come from slides seen in training" in said["says"]


def test_where_no_val_is_stated_it_is_drawn_from_train_by_case() -> None:
    table = MANY.assign(given=MANY["slide"].isin(["A0", "F1", "DC0"]).map({True: "test", False: "train"}))
    merged = table.merge(make_split(table, TASKS, "given", Split(column="fold"), 0), on="image_id")
    assert set(merged.loc[merged["part"] == "test", "slide"]) == {"A0", "F1", "DC0"}
    assert merged.groupby("case")["part"].nunique().max() == 1
    assert (merged["part"] == "val").mean() == pytest.approx(0.15, abs=0.03)


def test_a_column_that_puts_all_into_train_is_a_sentence_with_file_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv: the column 'Fold' puts no image into test \(train: 2\)"):
        given(tmp_path, ["a.png,train", "b.png,Train Set"])
    with pytest.raises(DataError, match=r"no image into train or test \(val: 1\)"):
        given(tmp_path, ["a.png,0", "b.png,train"][:1], map={"0": "val"})


def test_a_word_of_the_map_that_no_row_has_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given(tmp_path, ["a.png,0", "b.png,test"], map={"0.0": "train", "TEST": "test", "2": "val"})
    assert capsys.readouterr().err == "warning: split.map has the word '2', which the column 'Fold' does not have.\n"


def test_what_cannot_be_a_split_is_a_sentence() -> None:
    with pytest.raises(DataError, match=r"231 of 231 images have no part in the column 'fold'.*folder1.*split\.map"):
        make_split(MANY.assign(given=""), TASKS, "given", Split(column="fold"), 0)
    with pytest.raises(ParamsError, match=r"'given', which needs split\.column"):
        params(protocols=["given"])
