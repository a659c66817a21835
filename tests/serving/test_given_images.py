"""What a program may hand to `load` and `Model.predict`, and what it is told where it hands over something else."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import biopsy
from biopsy.cli import command
from biopsy.core.errors import DataError, SourceError
from tiny_onnx import network, write_onnx

PIXELS = np.full((48, 64, 3), 40, np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> biopsy.Model:
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    return biopsy.load(write_onnx(tmp_path / "dark.onnx"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a.png", "was given one (str). Write predict([image])"),
        (Path("a.png"), "Write predict([image])"),
        (b"\x89PNG", "Write predict([image])"),
        (PIXELS, "was given one (ndarray). Write predict([image])"),
        ({"file": ["a.png"]}, "dict has no 'path'"),
        (pd.DataFrame({"file": ["a.png"]}), "DataFrame has no 'path', the name of the column that predict reads"),
        (None, "was given NoneType"),
    ],
)
def test_what_is_no_list_of_images_is_told_and_not_iterated(model: biopsy.Model, given: Any, words: str) -> None:
    with pytest.raises(DataError) as told:
        model.predict(given)
    assert words in str(told.value)
    assert isinstance(told.value, biopsy.BiopsyError)


def test_the_images_of_a_table_are_its_column_path(model: biopsy.Model, tmp_path: Path) -> None:
    table = pd.DataFrame({"case": ["1", "2"], "path": [tmp_path / "a.png", None]}, index=[7, 5])
    given = model.predict(table)
    assert given["predicted"].tolist() == ["malignant", ""]
    assert given["image"][0] == str(tmp_path / "a.png")
    assert "Got " in given["error"][1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "image 0 must be a path, .* Got NoneType"),
        (float("nan"), "Got float"),
        (["a.png"], "Got list"),
        (Image.new("RGB", (48, 48)), "Got Image"),
        (np.ma.array(PIXELS, mask=PIXELS > 0), "image 0 is a masked array. Fill it first"),
        ("", "image 0 has an empty path"),
        ("a\0.png", "does not exist: no file can have such a name"),
    ],
)
def test_an_item_that_is_no_image_is_a_row_with_its_reason_and_the_others_are_predicted(
    model: biopsy.Model, given: Any, words: str
) -> None:
    table = model.predict([given, PIXELS])
    assert pd.Series(table["error"]).str.contains(words, regex=True).tolist() == [True, False]
    assert table["predicted"].tolist() == ["", "malignant"]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_bytes_are_bytes(model: biopsy.Model, tmp_path: Path, kind: Callable[[bytes], Any]) -> None:
    assert model.predict([kind((tmp_path / "a.png").read_bytes())])["predicted"].tolist() == ["malignant"]


def test_a_pickled_model_answers_alike_and_is_rejected_where_its_file_has_changed(
    model: biopsy.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(biopsy.load("dark.onnx"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pd.testing.assert_frame_equal(pickle.loads(pickled).predict([PIXELS]), model.predict([PIXELS]))
    write_onnx(tmp_path / "dark.onnx", made=network(extra=True))
    with pytest.raises(SourceError, match="has changed since the model was pickled"):
        pickle.loads(pickled)


@pytest.mark.parametrize("given", [None, 3, b"dark.onnx", ["dark.onnx"]])
def test_what_is_no_path_of_a_model_is_told(given: Any) -> None:
    with pytest.raises(SourceError, match="load takes the path of a model, and was given"):
        biopsy.load(given)


def test_a_name_that_begins_as_that_of_an_unknown_user_is_the_name_of_a_file(
    model: biopsy.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").rename("~$a.png")
    (tmp_path / "named.csv").write_text("path,label,case\n~$a.png,benign,1\n")
    command(["predict", "--model", "dark.onnx", "named.csv", "--out", "out.csv"])
    assert pd.read_csv("out.csv")["predicted"].tolist() == ["malignant"]
    command(["predict", "--model", "dark.onnx", "~$a.png", "--out", "again.csv"])
    assert pd.read_csv("again.csv")["predicted"].tolist() == ["malignant"]
    command(["evaluate", "--model", "dark.onnx", "--csv", "named.csv", "--images", ".", "--out", "tested"])
    assert (tmp_path / "tested/predictions.csv").exists()


def test_a_path_that_is_too_long_is_told() -> None:
    with pytest.raises(SourceError, match="cannot be read: File name too long"):
        biopsy.load("a" * 5000)
