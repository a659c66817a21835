"""`biopsy predict` with several models: each image is prepared once for all that prepare it alike."""

import json
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from biopsy.cli import command
from biopsy.core.errors import DataError, ParamsError
from biopsy.core.sections.data import Resize
from biopsy.images import prepare
from biopsy.images.decode import hash_pixels
from biopsy.images.looks.record import Looks, Range
from biopsy.images.preparation.record import Preparation
from biopsy.serving.training_images import packed, pixel_key
from tiny_onnx import DARK, network, write_onnx

ALL = ["dark", "same", "types"]
Predict = Callable[..., pd.DataFrame]


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Two models that prepare images alike, one of other classes that does not; a bad image among two good ones."""
    few = {"target": 0.05, "image": {"rule": {"threshold": 0.8, "test": {"answered": 9, "wrong": 1}}}}
    write_onnx(tmp_path / "exports/dark.onnx", figures={"abstention": few})
    light = Looks(images=9, ranges={"brightness": Range(low=150, median=200, high=250)})
    same = DARK.model_copy(update={"threshold": 0.99, "training": light})
    learnt = pixel_key(hash_pixels(np.full((48, 64, 3), 210, np.uint8)))
    write_onnx(tmp_path / "exports/same.onnx", same, learnt_from=packed(frozenset([learnt])))
    other = {"task": "multiclass", "preparation": Preparation(max_pixels=10_000, resize=Resize(size=48))}
    write_onnx(tmp_path / "exports/types.onnx", DARK.model_copy(update=other), network(48, classes=8))
    for name, value in (("a", 40), ("b", 210)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((48, 64, 3), value, np.uint8))
    (tmp_path / "c.png").write_bytes(b"no image")
    (tmp_path / "x.csv").write_text("path,case\na.png,1\nb.png,1\nc.png,2\n")
    monkeypatch.chdir(tmp_path)

    def call(models: list[str], *arguments: str, out: str = "x.out.csv") -> pd.DataFrame:
        named = [word for model in models for word in ("--model", f"exports/{model}.onnx")]
        with suppress(DataError):  # one image has no prediction
            command(["predict", "x.csv", *named, "--out", out, *arguments])
        return pd.read_csv(out, dtype=str, keep_default_na=False) if out.endswith("csv") else pd.DataFrame()

    return call


@pytest.mark.parametrize("by", [[], ["--by", "case"]])
def test_the_rows_of_each_model_are_those_that_it_gives_alone(predict: Predict, by: list[str]) -> None:
    found = predict(ALL, *by)
    assert found["model"].tolist() == ALL * (2 if by else 3)
    for model in ALL:
        alone, among = predict([model], *by), found[found["model"] == model]
        assert "model" not in alone
        pd.testing.assert_frame_equal(among[list(alone)].reset_index(drop=True), alone)
        assert (among[list(set(found) - set(alone) - {"model"})] == "").all(axis=None)
    assert ("unlike_training" in predict(["dark"], *by)) is False
    if not by:
        known = found[found["model"] == "same"]
        assert known[["in_training", "unlike_training"]].to_numpy().tolist() == [
            ["False", "brightness"], ["True", ""], ["", ""],
        ]  # fmt: skip
    shares = [column for column in found if column.startswith("p_")]
    assert len(shares) == 10
    head = ["case", "model"] if by else ["image", "case", "model"]
    assert list(found)[: len(head) + 11] == [*head, "predicted", *shares]


def test_an_image_is_decoded_once_for_models_that_prepare_it_alike(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = prepare.read_rgb, Counter[str]()

    def counted(source: Path, max_pixels: int) -> Any:
        reads[source.name] += 1
        return read(source, max_pixels)

    monkeypatch.setattr(prepare, "read_rgb", counted)
    predict(["dark", "same"])
    assert reads == dict.fromkeys(["a.png", "b.png", "c.png"], 1)
    predict(ALL)
    assert reads == dict.fromkeys(["a.png", "b.png", "c.png"], 3)


def test_an_image_that_models_cannot_read_is_counted_once(predict: Predict) -> None:
    with pytest.raises(DataError, match="1 of the images has no prediction"):
        command(["predict", "x.csv", "--model", "exports/dark.onnx", "--model", "exports/types.onnx"])
    assert predict(ALL)["error"].str.contains("c.png is not an image").tolist() == [False] * 6 + [True] * 3


def test_each_model_is_warned_of_by_its_name(predict: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("a", 40), ("b", 40)):
        cv2.imwrite(f"{name}.png", np.full((48, 64, 3), value, np.uint8))
    predict(["dark", "types"])
    said = capsys.readouterr().err
    assert "dark: binary, protocol" in said
    assert [f"warning: {name}: all 2 images got the same" in said for name in ALL] == [True, False, True]


def test_models_of_one_name_are_called_as_they_were_named(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "exports/dark.onnx").rename(tmp_path / "new/same.onnx")
    told = predict(["same", "types", "../new/same"])["model"].tolist()
    assert told[:3] == ["exports/same.onnx", "types", "exports/../new/same.onnx"]


def test_what_a_model_does_not_give_is_null_in_json(predict: Predict) -> None:
    predict(["dark", "types"], out="x.json")
    first, second = json.loads(Path("x.json").read_text())[:2]
    assert list(first) == list(second)
    assert [first["abstain"], second["abstain"]] == [False, None]
    assert second["p_benign"] is None
    assert first["p_benign"] < 0.1


def test_a_member_of_an_archive_may_be_as_large_as_one_of_the_models_takes(predict: Predict, tmp_path: Path) -> None:
    large = {"task": "multiclass", "preparation": Preparation(max_pixels=500_000, resize=Resize(size=48))}
    write_onnx(tmp_path / "exports/types.onnx", DARK.model_copy(update=large), network(48, classes=8))
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("a.bmp", cv2.imencode(".bmp", np.zeros((600, 700, 3), np.uint8))[1].tobytes())
    with suppress(DataError):
        command(
            ["predict", "x.zip", "--out", "x.json", "--model", "exports/dark.onnx", "--model", "exports/types.onnx"]
        )
    small, large = json.loads(Path("x.json").read_text())
    assert small["error"] == "x.zip/a.bmp has 420,000 pixels, more than ingest.max_pixels 10,000"
    assert large["predicted"] == "PC"


def test_slides_take_one_model(predict: Predict) -> None:
    with pytest.raises(ParamsError, match=r"--model: whole slides are predicted by one model. Name one of exports/"):
        command(["predict", "a.svs", "--model", "exports/dark.onnx", "--model", "exports/same.onnx"])
