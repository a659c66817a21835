"""`biopsy predict --explain`: a picture beside each prediction."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from biopsy.cli import command
from biopsy.core.errors import DataError, ParamsError
from biopsy.images.decode import ImageError
from biopsy.serving.explain import files as explain_files
from tiny_onnx import network, write_onnx

Predict = Callable[..., pd.DataFrame]


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """A model that gives an activation map, one that does not, and two images of one name."""
    write_onnx(tmp_path / "exports/quick.onnx", made=network(extra=True))
    write_onnx(tmp_path / "exports/slow.onnx")
    for name in ("images/a.png", "images/deep/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), 200, np.uint8))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, model: str = "quick") -> pd.DataFrame:
        model = f"exports/{model}.onnx"
        command(["predict", "images", "--model", model, "--explain", "images/maps", "--out", "x.csv", *arguments])
        return pd.read_csv("x.csv", keep_default_na=False)

    return call


@pytest.mark.parametrize(("model", "method"), [("quick", "activation"), ("slow", "occlusion")])
def test_each_row_names_a_picture_by_the_method_that_suits_the_model(
    predict: Predict, monkeypatch: pytest.MonkeyPatch, model: str, method: str
) -> None:
    explain, asked = explain_files.explain, []
    monkeypatch.setattr(explain_files, "explain", lambda m, i, by: (asked.append(by), explain(m, i, by))[1])
    found = predict(model=model)
    assert found["explanation"].tolist() == ["images/maps/a-explained.png", "images/maps/a-2-explained.png"]
    assert asked == [method] * 2
    assert list(found)[-2:] == ["explanation", "explanation_error"]
    assert found["explanation_error"].tolist() == ["", ""]
    assert all(cv2.imread(name).shape[1] == 1200 for name in found["explanation"])
    assert predict(model=model)["image"].tolist() == found["image"].tolist()  # pictures are no images


def test_the_pictures_of_two_models_are_called_after_them(predict: Predict) -> None:
    found = predict("--model", "exports/slow.onnx")
    names = ["a-quick", "a-slow", "a-quick-2", "a-slow-2"]
    assert found["explanation"].tolist() == [f"images/maps/{name}-explained.png" for name in names]
    one, other = (cv2.imread(name).astype(int) for name in found["explanation"][:2])
    assert one.shape != other.shape or np.abs(one - other).max() > 50


@pytest.mark.parametrize("by", [False, True])
def test_a_picture_that_cannot_be_drawn_is_a_reason_and_the_rest_goes_on(
    predict: Predict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: bool
) -> None:
    Path("images/bad.png").write_bytes(b"no image")
    Path("images/x.csv").write_text("path,case\na.png,1\nbad.png,1\ndeep/a.png,1\n")
    read = explain_files.read_rgb

    def gone(path: Path, most: int) -> np.ndarray:
        if path == Path("images/a.png"):
            raise ImageError(path, "missing", "does not exist")
        return read(path, most)

    monkeypatch.setattr(explain_files, "read_rgb", gone)
    words = "1 of the images has no prediction.* 1 of the predictions has no picture. The column 'explanation_error'"
    with pytest.raises(DataError, match=words):
        command(["predict", "images/x.csv", "--model", "exports/quick.onnx", "--explain", "maps", "--out", "x.csv",
                 *["--by", "case"][: 2 * by]])  # fmt: skip
    assert [path.name for path in Path("maps").iterdir()] == ["a-2-explained.png"]
    found, said = pd.read_csv("x.csv", keep_default_na=False), capsys.readouterr().err
    assert ("the first prediction without a picture: images/a.png does not exist" in said) is by
    if not by:
        assert found["explanation"].tolist() == ["", "", "maps/a-2-explained.png"]
        assert found["explanation_error"].tolist() == ["images/a.png does not exist", "", ""]
        assert found["predicted"].tolist() == ["benign", "", "benign"]


def test_an_image_of_the_longest_name_has_a_picture(predict: Predict) -> None:
    Path("images/a.png").rename("images/" + 125 * "é" + ".png")
    (name,) = {name for name in predict()["explanation"] if "é" in name}
    assert Path(name).is_file()


def test_a_file_in_the_folders_place_is_told_before_the_work(predict: Predict) -> None:
    Path("images/maps").touch()
    with pytest.raises(ParamsError, match="--explain: images/maps is not a folder"):
        predict()
    assert not Path("x.csv").exists()


def test_slides_have_their_own_pictures(predict: Predict) -> None:
    with pytest.raises(ParamsError, match="--explain is for images"):
        command(["predict", "a.svs", "--explain", "maps"])
