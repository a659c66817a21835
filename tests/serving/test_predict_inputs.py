"""`biopsy predict` without Keras: what may name images, one row a case, warnings, 10,000 images."""

import io
import os
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from raw import obey_permissions

from biopsy.cli import command
from biopsy.core.errors import BiopsyError, DataError
from biopsy.core.files import sha256, write_csv
from biopsy.evaluation.conformal import describe_sets
from biopsy.evaluation.figures import by_case
from biopsy.evaluation.outcome import make_outcome
from biopsy.images.decode import hash_pixels
from biopsy.networks.answers import BATCH
from biopsy.serving import inputs
from biopsy.serving.inputs import Found
from biopsy.serving.training_images import learnt_from, packed
from tiny_onnx import DARK, network, write_onnx

SHADES = {"dark": 40, "light": 210, "middle": 120}


def png(value: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((32, 40, 3), value, np.uint8))[1])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One exported model and three images; the working folder."""
    write_onnx(tmp_path / "exports/tiny.onnx")
    (tmp_path / "images/deep").mkdir(parents=True)
    for name, value in SHADES.items():
        (tmp_path / "images" / ("deep" if name == "dark" else "") / f"{name}.png").write_bytes(png(value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str) -> pd.DataFrame:
    capsys.readouterr()
    with suppress(DataError):  # some have no prediction, which the rows say
        command(["predict", *arguments])
    return pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False, dtype={"case": str, "slide": str})


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("images/*.png", ["images/light.png", "images/middle.png"]),
        ("images/**/*.png", ["images/deep/dark.png", "images/light.png", "images/middle.png"]),
        ("images/[lm]*", ["images/light.png", "images/middle.png"]),
        ("images/**.png", ["images/light.png", "images/middle.png"]),
        ("images/**", ["images/deep/dark.png", "images/light.png", "images/middle.png"]),
        ("ima?es", ["images/deep/dark.png", "images/light.png", "images/middle.png"]),
        ("{here}/images/*t.png", ["{here}/images/light.png"]),
    ],
)
def test_a_pattern_that_no_shell_expanded_names_images(
    project: Path, capsys: pytest.CaptureFixture[str], pattern: str, names: list[str]
) -> None:
    table = predicted(capsys, pattern.format(here=project))
    assert table["image"].tolist() == [name.format(here=project) for name in names]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "a[1].png").write_bytes(png(40))
    assert predicted(capsys, "a[1].png")["predicted"].tolist() == ["malignant"]


def test_a_folder_s_links_and_pipes_are_rows_that_say_why(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "images/gone.png").symlink_to("nowhere.png")
    os.mkfifo(project / "images/pipe.png")
    (project / "images/folder.png").mkdir()
    (project / "images/._light.png").write_bytes(b"x")
    errors = predicted(capsys, "images").set_index("image")["error"]
    assert len(errors) == 5
    assert "does not exist" in errors["images/gone.png"]
    assert "is a folder or device" in errors["images/pipe.png"]


def test_usual_names_of_the_columns_are_known_and_path_and_case_come_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "x.csv").write_text("File Name,patient,Slide_ID\nimages/light.png,P1,S1\n")
    table = predicted(capsys, "x.csv")
    assert table[["image", "case", "slide"]].to_numpy().tolist() == [["images/light.png", "P1", "S1"]]
    (project / "x.csv").write_text("file,patient,path,case\nno.png,P1,images/light.png,C1\n")
    assert predicted(capsys, "x.csv")[["image", "case"]].to_numpy().tolist() == [["images/light.png", "C1"]]


@pytest.mark.parametrize("column", ["path", "image", "Path to image"])
@pytest.mark.parametrize(
    "cell", ["images/light.png", "images\\light.png", "images/light", "light.png", "/x/images/LIGHT.PNG"]
)
def test_the_paths_of_a_table_are_matched_as_for_ingest(
    project: Path, capsys: pytest.CaptureFixture[str], column: str, cell: str
) -> None:
    (project / "x.csv").write_text(f"{column},case\n{cell},P1\ngone.png,P2\n")
    table = predicted(capsys, "x.csv")
    assert table["image"].tolist() == ["images/light.png", "gone.png"]
    assert table["predicted"].tolist() == ["benign", ""]


def test_a_path_that_two_files_fit_is_a_row_that_names_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its row said that the file does not exist, although one of the two was meant."""
    for folder in ("a", "b"):
        (project / folder).mkdir()
        (project / folder / "same.png").write_bytes(png(40))
    (project / "x.csv").write_text("path\nsame.png\nimages/light.png\n")
    error = predicted(capsys, "x.csv")["error"]
    assert error.tolist() == ["same.png does not exist (2 files fit: a/same.png, b/same.png)", ""]


def test_a_folder_that_may_not_be_read_is_a_row_and_the_others_are_predicted(project: Path) -> None:
    (project / "images/deep").chmod(0)
    words = [sys.executable, "-m", "biopsy.cli", "predict", "images"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=project, preexec_fn=obey_permissions)
    (project / "images/deep").chmod(0o755)
    table = pd.read_csv(io.StringIO(done.stdout), keep_default_na=False)
    assert table["image"].tolist() == ["images/deep", "images/light.png", "images/middle.png"]
    assert table["predicted"].tolist() == ["", "benign", "malignant"]
    assert "images/deep may not be read (chmod u+r" in table["error"][0]
    assert done.returncode == DataError.exit_code


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_an_archive_is_read_in_place_and_a_bad_member_is_a_row_with_its_reason(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = png(40)
    members = {
        "a/1.png": whole, "a/2.PNG": whole[:50], "a/3.png": b"", "a/4.png": bytes(2**21), "../5.png": png(210),
        "a/notes.txt": b"x", "__MACOSX/._1.png": b"x", "b/6.png": png(211),
    }  # fmt: skip
    pack(project / "x.zip", members)
    data = bytearray((project / "x.zip").read_bytes())
    data[data.index(b"b/6.png") + 12] ^= 255  # in its packed bytes
    (project / "x.zip").write_bytes(data)
    before = sorted(project.rglob("*"))
    table = predicted(capsys, "x.zip")
    assert table["image"].tolist() == [
        f"x.zip/{n}" for n in ("../5.png", "a/1.png", "a/2.PNG", "a/3.png", "a/4.png", "b/6.png")
    ]
    assert table["predicted"].tolist() == ["benign", "malignant", "", "", "", ""]
    errors = table["error"].tolist()
    assert all(name in error for name, error in zip(table["image"][2:], errors[2:], strict=True))
    assert "too many for 10,000 pixels" in errors[4]
    assert "is damaged" in errors[5]
    assert sorted(project.rglob("*")) == before


def test_an_encrypted_member_and_one_of_another_method_are_rows(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(project / "x.zip", {"a.png": png(40)}, zipfile.ZIP_LZMA)
    assert "packed in a way" in predicted(capsys, "x.zip")["error"].item()
    data = bytearray(pack(project / "y.zip", {"a.png": png(40)}).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    (project / "y.zip").write_bytes(data)
    assert "encrypted" in predicted(capsys, "y.zip")["error"].item()


@pytest.mark.parametrize(
    ("files", "arguments", "words"),
    [
        ({}, ["nothing/*.png"], "has no images"),
        ({"x.zip": b"PK no archive"}, ["x.zip"], "is not a .zip archive"),
        ({"x.csv": b"path,case\n,1\n"}, ["x.csv"], "row 2 has no path"),
        ({"x.csv": b"path,case,Case\na,1,1\n"}, ["x.csv"], "2 columns 'case'"),
        ({"x.csv": b"path,case\na.png,1\na.png,2\n"}, ["x.csv"], "twice, with two cases"),
        ({}, ["missing.csv"], "does not exist"),
        ({"x.csv": b"path,case\na.png,1\nb.png,NA\n"}, ["x.csv", "--by", "case"], "1 of 2 images have no case"),
        ({}, ["images", "--by", "slide"], "3 of 3 images have no slide"),
    ],
)
def test_a_mistake_is_one_sentence(project: Path, files: dict[str, bytes], arguments: list[str], words: str) -> None:
    for name, data in files.items():
        (project / name).write_bytes(data)
    with pytest.raises(BiopsyError, match=words):
        command(["predict", *arguments])


def test_an_archive_beyond_its_limits_is_rejected_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(project / "x.zip", {f"{i}.png": png(40) for i in range(3)})
    for limit in ("MEMBERS", "TOTAL"):
        with monkeypatch.context() as patch:
            patch.setattr(inputs, limit, 2)
            with pytest.raises(DataError, match="holds 3 images of"):
                command(["predict", "x.zip"])


def test_images_that_a_model_has_learnt_from_are_named_whatever_file_holds_their_pixels(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def of(value: int, part: str) -> dict[str, str]:
        pixels = np.full((32, 40, 3), value, np.uint8)
        return {"image_id": part, "binary": "benign", "part": part, "pixels_sha256": hash_pixels(pixels)}

    rows = pd.DataFrame([of(40, "train"), of(120, "val"), of(210, "test")])
    write_csv(project / "data/interim/labels.csv", rows.drop(columns="part"))
    write_csv(project / "data/splits/case.csv", rows[["image_id", "part"]])
    tables = {"labels": project / "data/interim/labels.csv", "split": project / "data/splits/case.csv"}
    card = DARK.model_copy(update={"data": {what: sha256(path) for what, path in tables.items()}})
    write_onnx(project / "exports/tiny.onnx", card, learnt_from=packed(learnt_from(card, project / "models/tiny")))
    cv2.imwrite("images/copy.tif", np.full((32, 40, 3), 40, np.uint8))
    (project / "images/bad.png").write_bytes(b"no image")
    (project / "images/x.csv").write_text("path,case\ndeep/dark.png,1\ncopy.tif,1\nlight.png,2\n")
    given = predicted(capsys, "images")
    assert dict(zip(given["image"], given["in_training"], strict=True)) == {
        "images/bad.png": "", "images/copy.tif": "True", "images/deep/dark.png": "True", "images/light.png": "False",
        "images/middle.png": "True",
    }  # fmt: skip
    assert predicted(capsys, "images/x.csv", "--by", "case")["in_training"].tolist() == [2, 0]
    command(["predict", "images/copy.tif", "images/light.png"])
    assert "1 of 2 images are training or validation images of this model" in capsys.readouterr().err
    assert learnt_from(card, Path("/tiny")) is None
    tables["split"].write_text("image_id,part\n")
    assert learnt_from(card, project / "models/tiny") is None
    write_onnx(project / "exports/tiny.onnx")
    assert predicted(capsys, "images/light.png")["in_training"].tolist() == [""]


CASES = "path,case,slide\nlight.png,P1,1\nmissing.png,p2,1\ndeep/dark.png,P1,2\nmiddle.png,P2,1\ngone.png,3,9\n"


def test_a_row_a_case_has_the_mean_probability_by_which_the_test_judges_cases(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "images/x.csv").write_text(CASES)
    images = predicted(capsys, "images/x.csv")
    assert list(images.columns[:3]) == ["image", "case", "slide"]
    cases = predicted(capsys, "images/x.csv", "--by", "case")
    assert list(cases.columns) == [
        "case",
        "predicted",
        "p_benign",
        "p_malignant",
        "images",
        "without_prediction",
        "in_training",
    ]
    assert cases["case"].tolist() == ["P1", "p2", "3"]
    assert cases[["images", "without_prediction"]].to_numpy().tolist() == [[2, 0], [2, 1], [1, 1]]
    assert cases["predicted"].tolist()[2] == ""
    told = images[images["error"] == ""]
    given = told[["p_benign", "p_malignant"]].astype(float).to_numpy()
    outcome = make_outcome(np.zeros(3, int), given, ["benign", "malignant"])
    expected, _ = by_case(outcome, told["case"].str.upper().to_numpy(str))
    found = cases[["p_benign", "p_malignant"]][:2].astype(float).to_numpy()
    assert found == pytest.approx(expected.probabilities, abs=2e-6)
    assert cases["predicted"].tolist()[:2] == [["benign", "malignant"][i] for i in expected.predicted]


def test_a_row_a_case_lists_the_classes_that_it_may_be_as_the_test_counts_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "images/x.csv").write_text("path,case\nlight.png,1\nmiddle.png,2\ndeep/dark.png,3\ngone.png,4\n")
    plain = predicted(capsys, "images/x.csv", "--by", "case")[["p_benign", "p_malignant"]][:3].astype(float)
    truth = np.array([0, 0, 1])
    outcome = make_outcome(truth, plain.to_numpy(), ["benign", "malignant"])
    twelve = outcome[np.tile(np.arange(3), 4)], np.arange(12).astype(str)
    sets = describe_sets(twelve, (outcome, np.arange(3).astype(str)))
    assert sets["levels"]["0.9"]["size"] > 1  # `middle` may be either
    write_onnx(project / "exports/tiny.onnx", figures={"sets": sets})
    with suppress(DataError):
        command(["predict", "images/x.csv", "--by", "case", "--out", "cases.csv"])
    said = capsys.readouterr().err
    found = pd.read_csv("cases.csv", keep_default_na=False)["prediction_set"].tolist()
    assert "in 90 % of new cases like the 12 calibration cases" in said
    assert found[3] == ""
    assert sum(len(one.split("; ")) for one in found[:3]) / 3 == pytest.approx(sets["levels"]["0.9"]["size"], abs=1e-6)
    assert all(["benign", "malignant"][i] in one for i, one in zip(truth, found, strict=False))
    leaky = DARK.model_copy(update={"protocol": "image"})  # whose cases were seen in training: a promise for no one
    for card, figures in ((leaky, {"sets": sets}), (DARK, {"sets": None}), (DARK, None)):
        write_onnx(project / "exports/tiny.onnx", card, figures=figures)
        assert "prediction_set" not in predicted(capsys, "images/x.csv", "--by", "case")
    write_onnx(project / "exports/tiny.onnx", figures={"sets": sets})
    assert "prediction_set" not in predicted(capsys, "images/x.csv")


def test_an_unsure_answer_is_marked_as_the_rule_of_the_test_marks_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "images/x.csv").write_text("path,case\nlight.png,1\nmiddle.png,2\ndeep/dark.png,3\ngone.png,4\n")
    sure = predicted(capsys, "images/x.csv")[["p_benign", "p_malignant"]][:3].astype(float).max(axis=1)
    told = {"answered": 20, "wrong": 1}
    rules = {unit: {"rule": {"threshold": float(sure.median()), "test": told}} for unit in ("image", "case")}
    figures = {"abstention": {"target": 0.05, **rules}}
    write_onnx(project / "exports/tiny.onnx", figures=figures)
    for by in ((), ("--by", "case")):
        found = predicted(capsys, "images/x.csv", *by)["abstain"]
        assert found.tolist() == [*(str(one) for one in sure < sure.median()), ""]
        assert (sure < sure.median()).sum() == 1
    with suppress(DataError):
        command(["predict", "images/x.csv", "--out", "x.csv"])
    assert "were wrong; of the other test images 1 of 20" in capsys.readouterr().err
    leaky = DARK.model_copy(update={"protocol": "image"})  # whose cases were seen in training: a promise for no one
    none = {"abstention": {"target": 0.05, "image": {"rule": None}, "case": {"rule": None}}}
    for card, given in ((leaky, figures), (DARK, none), (DARK, None)):
        write_onnx(project / "exports/tiny.onnx", card, figures=given)
        assert "abstain" not in predicted(capsys, "images/x.csv")


@pytest.mark.parametrize(
    ("by", "column"), [([], "'error' says why"), (["--by", "case"], "'without_prediction' counts")]
)
def test_images_without_a_prediction_are_an_error_that_names_their_column(
    project: Path, by: list[str], column: str, capsys: pytest.CaptureFixture
) -> None:
    (project / "images/x.csv").write_text(CASES)
    with pytest.raises(DataError, match=f"2 of the images have no prediction. The column {column}") as caught:
        command(["predict", "images/x.csv", *by, "--out", "x.jsonl"])
    assert caught.value.exit_code == 3
    assert len((project / "x.jsonl").read_text().splitlines()) == (3 if by else 5)
    assert ("the first image without a prediction: " in capsys.readouterr().err) == bool(by)  # rows of images say why


def test_explain_takes_patterns_and_says_that_it_reads_no_archive(project: Path) -> None:
    command(["explain", "images/[l]*.png"])
    assert (project / "explanations/light-explained.png").is_file()
    with pytest.raises(BiopsyError, match="explain does not read"):
        command(["explain", str(pack(project / "x.zip", {"a.png": png(40)}))])


def test_slides_of_two_cases_may_have_one_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "images/x.csv").write_text(CASES)
    table = predicted(capsys, "images/x.csv", "--by", "slide")
    assert table[["case", "slide"]].to_numpy().tolist() == [["P1", "1"], ["p2", "1"], ["P1", "2"], ["3", "9"]]
    (project / "images/y.csv").write_text("path,slide\nlight.png,1\nmiddle.png,1\n")
    assert predicted(capsys, "images/y.csv", "--by", "slide")["images"].tolist() == [2]


def test_the_same_answer_for_every_image_is_warned_of(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (project / f"{name}.png").write_bytes(png(40))
    for arguments, warned in ((["a.png", "b.png"], True), (["a.png"], False), (["images"], False)):
        command(["predict", *arguments])
        assert ("warning: all 2 images got the same" in capsys.readouterr().err) is warned


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_model_that_gives_no_number_gives_no_class(
    project: Path, number: float, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = onnx.load_from_string(network())
    (bias,) = (kept for kept in broken.graph.initializer if kept.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0, number], np.float32), "bias"))
    write_onnx(project / "exports/tiny.onnx", made=broken.SerializeToString())
    rows = predicted(capsys, "images")
    assert (rows["predicted"] == "").all()
    assert rows["error"].str.startswith("the model gives no number").all()
    with pytest.raises(BiopsyError, match="1 of the images has no explanation"):
        command(["explain", "images/light.png"])
    assert "error: the model gives no number" in capsys.readouterr().err


def test_a_file_that_is_no_model_is_one_sentence(project: Path) -> None:
    with pytest.raises(BiopsyError, match=r"light\.png is not a model. Name a folder"):
        command(["predict", "images", "--model", "images/light.png"])


def test_rows_are_written_as_they_come_so_that_no_more_than_two_batches_are_held(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i:03}.png" for i in range(100)]
    pack(project / "x.zip", dict.fromkeys(names, png(40)))
    stream, held, read = io.StringIO(), [], Found.source

    def counted(image: Found, max_pixels: int) -> Path | bytes:
        held.append(len(held) + 1 - max(0, stream.getvalue().count("\n") - 1))
        return read(image, max_pixels)

    monkeypatch.setattr(Found, "source", counted)
    monkeypatch.setattr("sys.stdout", stream)
    command(["predict", "x.zip"])
    assert len(held) == 100
    assert max(held) <= 2 * BATCH  # one is answered, the next is prepared
    rows = stream.getvalue().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [f"x.zip/{name}" for name in names]
