"""Inputs that were taken for something else, in silence: another file, no file, the table of the user's own."""

import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from raw import obey_permissions

from biopsy.cli import command
from biopsy.core.errors import DataError, ParamsError
from biopsy.images.looks.record import Looks, Range
from tiny_onnx import DARK, write_onnx


def png(path: Path, value: int, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(cv2.imencode(".png", np.full((side, side, 3), value, np.uint8))[1]))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One exported model, which calls dark images malignant; the working folder."""
    write_onnx(tmp_path / "exports/tiny.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(table: str, *options: str) -> pd.DataFrame:
    Path("labels.csv").write_text(table)
    command(["evaluate", "--model", "exports/tiny.onnx", "--csv", "labels.csv", *options])
    return pd.read_csv("external/predictions.csv", dtype=str, keep_default_na=False)


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_file_that_is_there_is_read_though_another_one_of_its_name_lies_beside_the_table(
    project: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    png(project / "elsewhere/a.png", 40)
    png(project / "here/a.png", 210)
    table = project / "here/t.csv"
    table.write_text(f"path,label\n{project}/elsewhere/a.png,malignant\ngone.png,benign\n")
    with pytest.raises(DataError, match="1 "):
        command([verb, *(["--csv"] if verb == "evaluate" else []), str(table)])
    found = pd.read_csv("external/predictions.csv" if verb == "evaluate" else io.StringIO(capsys.readouterr().out))
    assert found["predicted"][0] == "malignant"


@pytest.mark.parametrize(
    "content",
    [
        "a.png\r\nb c.png\r\n".encode("utf-16"),
        "\ufeffa.png\nb c.png\n".encode(),
        b"a.png\0b c.png\0",
        b"a.png\r\nb c.png\r\n",
    ],
)
def test_a_list_of_paths_may_be_of_powershell_or_find(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    png(project / "a.png", 40)
    png(project / "b c.png", 210)
    typed(monkeypatch, content)
    command(["predict", "-"])
    assert pd.read_csv(io.StringIO(capsys.readouterr().out))["image"].tolist() == ["a.png", "b c.png"]


def test_a_list_in_another_encoding_is_rows_that_say_so(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    png(project / "a.png", 40)
    typed(monkeypatch, b"a.png\ncaf\xe9.png\n")
    with pytest.raises(DataError, match="1 of the images has no prediction"):
        command(["predict", "-"])
    assert "does not exist" in capsys.readouterr().out


def test_a_folder_s_links_to_folders_are_followed_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png(project / "real/a.png", 40)
    (project / "in").mkdir()
    (project / "in/sub").symlink_to("../real")
    (project / "real/up").symlink_to("..")
    command(["predict", "in"])
    assert pd.read_csv(io.StringIO(capsys.readouterr().out))["image"].tolist() == ["in/sub/a.png"]


@pytest.mark.parametrize("shut", ["in", "in/shut"])
def test_a_folder_that_cannot_be_read_is_no_empty_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shut: str
) -> None:
    png(project / "in/a.png", 40)
    (project / "in/shut").mkdir()
    scan = os.scandir

    def refusing(path: str) -> object:
        if str(path) == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    words = r"folder in \(Permission denied\)" if shut == "in" else "'error'"  # one below is a row of its own
    with pytest.raises(DataError, match=words):
        command(["predict", "in"])
    if shut != "in":
        assert pd.read_csv(io.StringIO(capsys.readouterr().out))["image"].tolist() == ["in/a.png", "in/shut"]


@pytest.mark.parametrize("shut", ["models", "models/best", "exports"])
def test_a_model_that_cannot_be_looked_at_is_no_missing_one(tmp_path: Path, shut: str) -> None:
    for file in ("exports/a.onnx", *(["models/best/model.json", "models/other/model.json"] if shut[0] == "m" else [])):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / shut).chmod(0)
    asked = [sys.executable, "-c", "from biopsy.serving.finding import only_model as f; print(f())"]
    told = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, preexec_fn=obey_permissions)
    (tmp_path / shut).chmod(0o755)
    assert told.stdout == ""
    assert f"Permission denied: '{shut}" in told.stderr


def test_what_biopsy_drew_and_what_it_cannot_read_is_told_and_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("in/a.png", "in/a-explained.png", "in/slide/heatmap.png"):
        png(project / name, 40)
    for name in ("in/slide/tiles.csv", "in/b.heic", "in/c.zip"):
        (project / name).write_text("x")
    command(["predict", "in"])
    printed = capsys.readouterr()
    assert pd.read_csv(io.StringIO(printed.out))["image"].tolist() == ["in/a.png"]
    assert "holds 2 pictures that biopsy drew" in printed.err
    assert "in holds 2 files of kinds that are not read (b.heic, c.zip)" in printed.err


def test_one_file_named_in_two_ways_is_one_image(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png(project / "a.png", 40)
    command(["predict", "a.png", str(project / "a.png")])
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 1


def test_a_table_that_is_read_is_never_written_over(project: Path) -> None:
    png(project / "a.png", 40)
    mine = "path,label,note\na.png,malignant,mine\n"
    for name in ("t.csv", "external/predictions.csv"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(mine)
    (project / "link.csv").symlink_to("t.csv")
    for words in (
        ["predict", "t.csv", "--out", "t.csv"],
        ["predict", "t.csv", "--out", "link.csv"],
        ["evaluate", "--csv", "external/predictions.csv"],
    ):
        with pytest.raises(ParamsError, match="is read, and would be written over"):
            command(words)
    assert (project / "t.csv").read_text() == (project / "external/predictions.csv").read_text() == mine


def test_two_columns_of_labels_must_agree(project: Path) -> None:
    for name in "ab":
        png(project / f"{name}.png", 40)
    with pytest.raises(DataError, match=r"row 3: the columns label and class give different labels"):
        evaluate("path,class,label\na.png,benign,benign\nb.png,benign,malignant\n")
    rows = evaluate("path,class,label\na.png,benign,benign\nb.png,benign,malignant\n", "--label", "class")
    assert set(rows["truth"]) == {"benign"}


def test_a_word_is_one_class(project: Path) -> None:
    png(project / "a.png", 40)
    with pytest.raises(ParamsError, match="--map gives 0 two classes"):
        evaluate("path,label\na.png,0\n", "--map", "0=benign", "--map", "0=malignant")


def test_evaluate_says_so_where_images_are_no_test(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as `predict` says: here images of a size that training did not have."""
    card = DARK.model_copy(update={"training": Looks(images=9, ranges={"width": Range(low=500, median=500, high=500)})})
    write_onnx(project / "exports/tiny.onnx", card=card)
    png(project / "a.png", 40)
    evaluate("path,label\na.png,malignant\n")
    assert "1 of 1 images look unlike the training images" in capsys.readouterr().err
    command(["predict", "a.png"])
    assert pd.read_csv(io.StringIO(capsys.readouterr().out))["unlike_training"][0] == "width"
