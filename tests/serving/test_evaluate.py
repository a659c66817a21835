"""`biopsy evaluate`: a trained model on labelled images of elsewhere, good ones and bad ones."""

import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from accessible import violations
from biopsy.cli import command
from biopsy.core.errors import BiopsyError, DataError, ParamsError, SourceError
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.looks.measure import look_at, looks_of_training
from biopsy.images.looks.record import Looks, Range, ranges_of
from biopsy.networks.model_file import NOTICE
from biopsy.serving.training_images import packed, pixel_key
from tiny_onnx import DARK, write_onnx

Evaluate = Callable[..., dict[str, Any]]
DARK_TISSUE, LIGHT_TISSUE = (150, 40, 130), (200, 160, 235)  # BGR; the model calls the dark one malignant


def picture(path: Path, colour: Sequence[int], seed: int = 0, side: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 8, (side, side, 3))
    cv2.imwrite(str(path), (np.array(colour) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve cases of two images; those of the first six are light and benign."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(24):
        picture(folder / f"sub/{i}.png", LIGHT_TISSUE if i < 12 else DARK_TISSUE, i)
    return folder


@pytest.fixture
def evaluate(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Run the command on a table and read what it wrote, also where it ends with an error of single rows."""

    def run(table: str, *options: str, model: Path | None = None, fails: str = "") -> dict[str, Any]:
        (tmp_path / "labels.csv").write_text(table)
        path = model or write_onnx(tmp_path / "dark.onnx")
        out = tmp_path / "out"
        words = ["--model", str(path), "--csv", str(tmp_path / "labels.csv"), "--images", str(images)]
        arguments = ["evaluate", *words, "--out", str(out), *options]
        if fails:
            with pytest.raises(DataError, match=fails):
                command(arguments)
        else:
            command(arguments)
        printed = capsys.readouterr()
        return {
            "metrics": json.loads((out / "metrics.json").read_text()),
            "rows": pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False),
            "page": (out / "report.html").read_text(),
            "said": printed.out,
            "warned": printed.err,
        }

    return run


def table(
    separator: str = ",", label: Callable[[int], str] = lambda i: "benign" if i < 12 else "M", n: int = 24
) -> str:
    lines = [["path", "label", "case"], *([f"{i}.png", label(i), f"P{i // 2}"] for i in range(n))]
    return "\n".join(separator.join(line) for line in lines) + "\n"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_figures_are_those_of_the_pipeline_and_synonyms_and_folders_are_found(
    evaluate: Evaluate, separator: str
) -> None:
    wrong = {0: "malignant", 1: "Malignant "}  # the first case is labelled malignant, and looks benign
    found = evaluate(table(separator, lambda i: wrong.get(i, "B" if i < 12 else "m")))
    metrics = found["metrics"]
    assert (metrics["images"], metrics["cases"], metrics["left_out"]) == (24, 12, {})
    assert metrics["image_level"]["accuracy"] == pytest.approx(22 / 24)
    assert metrics["cases_right"]["right"] == 11
    low, high = metrics["intervals"]["macro_f1"]
    assert low < metrics["image_level"]["macro_f1"] < high
    assert (found["rows"]["predicted"] != found["rows"]["truth"]).sum() == 2
    assert found["rows"][["p_benign", "p_malignant"]].astype(float).sum(axis=1).to_numpy() == pytest.approx(1, abs=2e-6)
    assert f"95 % interval {low:.3f} to {high:.3f}" in found["said"]


def test_the_page_opens_with_the_verdict_and_asks_for_nothing(
    evaluate: Evaluate, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    own = {"test": {"macro_f1": 0.75, "f1_low": 0.5, "f1_high": 0.9}, "images": 40, "cases": 9}
    found = evaluate(table(), model=write_onnx(tmp_path / "own.onnx", figures=own))
    page, problems = phone
    page.on("request", lambda asked: problems.append(asked.url) if asked.url[:5] not in ("file:", "data:") else None)
    page.goto(f"file://{tmp_path / 'out/report.html'}")
    said = page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    assert problems == []
    first = f"Macro-F1 {found['metrics']['image_level']['macro_f1']:.3f}"
    places = [
        said.index(text)
        for text in (NOTICE, first, "on 24 images of 12 cases", "What this page does not show", "From the table")
    ]
    assert places == sorted(places)
    assert "On its own test part it had macro-F1 0.750 (95 % interval 0.500 to 0.900) on 40 images of 9 cases" in said
    assert "new to the model: the data that it learnt from are not here to compare with" in said
    assert "By brightness, worst first" not in said  # folded
    page.locator("summary", has_text="brightness").press("Enter")
    page.get_by_text("By brightness, worst first").wait_for()


def test_the_thresholds_that_validation_chose_are_tried_on_these_images(evaluate: Evaluate, tmp_path: Path) -> None:
    part = {name: {"right": 9, "of": 10, "share": 0.9} for name in ("sensitivity", "specificity")}
    point = {"threshold": 0.999, "val": part, "test": part}
    own = {"test": {"macro_f1": 0.75}, "operating_point": {"wanted": 0.85, "image": point, "case": point}}
    model = write_onnx(tmp_path / "own.onnx", figures=own)
    found = evaluate(table(), model=model)
    rows, points = found["rows"], found["metrics"]["operating_point"]
    called = rows["p_malignant"].astype(float) >= 0.999
    tested = points["image"]["test"]
    assert tested["sensitivity"]["right"] == called[12:].sum() < 12 == tested["sensitivity"]["of"]
    assert tested["specificity"]["right"] == 12
    assert points["case"]["test"]["specificity"]["of"] == 6
    assert points["image"]["val"] == part
    assert "Operating point: the threshold for a sensitivity of 0.85" in found["page"]
    alone = evaluate("path,label\n0.png,B\n20.png,M\n", model=model)["metrics"]["operating_point"]
    assert alone["case"] == {"reason": "there are images whose case is not known"}
    none = write_onnx(
        tmp_path / "none.onnx", figures=own | {"operating_point": {"wanted": 0.85, "reason": "no positive"}}
    )
    assert "None: no positive." in evaluate(table(), model=none)["page"]


def test_rows_that_cannot_be_used_are_counted_and_named_and_the_others_are_evaluated(
    evaluate: Evaluate, images: Path
) -> None:
    (images / "broken.png").write_bytes((images / "sub/0.png").read_bytes()[:60])
    reasons = {
        "0.png,in situ,P0": "'in situ' is not a class of the model",
        "2.png,,P1": "it has no label",
        "nowhere.png,B,P0": "there is no such file",
        ",B,P0": "there is no such file",
        "sub/3.jpg,B,P0": "there is no such file (sub/3.png is there, with another ending)",
        "1.png,benign,p0": "an earlier row lists it",
        "broken.png,B,P0": "broken.png",
    }
    found = evaluate(table() + "\n".join(reasons), fails="7 rows have no prediction.*'error' of predictions.csv")
    rows, left = found["rows"], found["metrics"]["left_out"]
    assert all(reason in error for reason, error in zip(reasons.values(), rows["error"][24:], strict=True))
    assert (rows["error"][:24] == "").all()
    assert sum(left.values()) == 7 == len(rows) - found["metrics"]["images"] == (rows["predicted"] == "").sum()
    assert "7 rows of the table are not in these figures" in found["page"]
    assert "3 rows left out: there is no such file" in found["warned"]
    assert "may be one" not in found["warned"]
    assert "the cases 007 / 7 may be one" in evaluate("path,label,case\n0.png,B,007\n20.png,M,7\n")["warned"]
    assert "changed the cases 4-Mar" in evaluate("path,label,case\n0.png,B,4-Mar\n20.png,M,7\n")["warned"]
    warned = evaluate("path,label,case\n0.png,B,a\n20.png,M,b\n21.png,M,\n")["warned"]
    assert "1 row of 3 without a case, unlike the others. Each counts as a case" in warned


def test_a_full_disk_leaves_figures_predictions_and_page_of_one_run(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(table())
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write = Path.write_text

    def full(path: Path, text: str, *rest: str) -> int:
        if path.suffix == ".html":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, *rest)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        evaluate(table(n=20))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_table_that_names_no_cases_is_warned_of_where_the_interval_is_printed(evaluate: Evaluate) -> None:
    found = evaluate("path,label,Klinik\n" + "".join(f"{i}.png,{'B' if i < 12 else 'M'},x\n" for i in range(24)))
    assert "on 24 images whose cases are not known" in found["said"]
    assert "names no cases (it has path, label, Klinik): each image counts as one" in found["warned"]
    assert "names no cases" not in evaluate(table())["warned"]
    unique = "path,label,case\n" + "".join(f"{i}.png,{'B' if i < 12 else 'M'},{i + 1}00\n" for i in range(24))
    assert "each image has a case of its own, so intervals" in evaluate(unique)["warned"]
    assert "a case of its own" not in evaluate(table())["warned"]


@pytest.mark.parametrize(
    ("path", "case"), [("file", "patient"), ("File_Name", "Patient ID"), ("image path", "case_id")]
)
def test_usual_names_of_the_columns_of_images_and_patients_are_known(evaluate: Evaluate, path: str, case: str) -> None:
    found = evaluate(table().replace("path", path).replace("case", case))
    assert (found["metrics"]["images"], found["metrics"]["cases"]) == (24, 12)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("path,label\n0.png,B\n1.png,B\n20.png,M\n", "on 3 images whose cases are not known"),
        ("path,label,slide\n0.png,B,s1\n1.png,B,s1\n20.png,M,s2\n", "Of 3 images the slide counts as the case"),
        ("path,label,case\n0.png,B,a\n20.png,M,b\n21.png,M,\n", "1 of 3 images have no case or slide"),
        ("path,label,case\n0.png,B,a\n1.png,B,a\n", "No image of malignant is tested"),
        ("path,label,case\n0.png,B,a\n20.png,M,a\n", "Why no interval: too few cases"),
        ("path,label,case\n0.png,B,a\n1.png,M,b\n", "The model calls every image benign."),
        ("path,Cancer Type,case\n0.png,A,a\n20.png,ductal,b\n", "on 2 images of 2 cases"),
        ("path,label,case,magnification\n0.png,B,a,40X\n20.png,M,b,\n", "By magnification"),
        ("path,label,case\nSOB_B_A-14-22549AB-100-001.png,,\n20.png,M,b\n", "on 2 images of 2 cases"),
    ],
)
def test_what_a_table_lacks_is_said_in_the_verdict(evaluate: Evaluate, images: Path, rows: str, says: str) -> None:
    picture(images / "SOB_B_A-14-22549AB-100-001.png", LIGHT_TISSUE)
    assert says in " ".join(evaluate(rows)["page"].split())


def test_the_reason_for_no_interval_is_said_on_the_screen_too(evaluate: Evaluate) -> None:
    assert "(no interval: only one class is tested) on 24 images" in evaluate(table(label=lambda _: "B"))["said"]


def test_the_page_has_no_heading_of_what_only_the_pipeline_can_tell(evaluate: Evaluate) -> None:
    assert "the probabilities: decision curve" in evaluate(table())["page"]


def test_labels_that_come_from_file_names_are_counted(evaluate: Evaluate, images: Path) -> None:
    picture(images / "SOB_B_A-14-22549AB-100-001.png", LIGHT_TISSUE)
    rows = "path,label,case\nSOB_B_A-14-22549AB-100-001.png,,\n20.png,M,b\n"
    assert "1 row of 2 without a label, which the file names give" in evaluate(rows)["warned"]
    assert "file names" not in evaluate(table())["warned"]


def test_a_model_that_does_not_look_at_images_is_named(evaluate: Evaluate, images: Path) -> None:
    for name in ("same/a.png", "same/b.png"):
        picture(images / name, LIGHT_TISSUE)
    page = evaluate("path,label,case\nsame/a.png,B,a\nsame/b.png,M,b\n")["page"]
    assert "The model calls every image benign, with the same probabilities" in page


def test_the_words_of_another_table_are_mapped(evaluate: Evaluate) -> None:
    given = table(label=lambda i: "healthy" if i < 12 else "cancer").replace("label", "diagnosis")
    options = ("--label", "Diagnosis", "--map", "healthy=benign", "--map", "cancer=ductal carcinoma")
    found = evaluate(given, *options, "--map", "tumor=malignant")
    assert found["metrics"]["image_level"]["accuracy"] == 1
    assert "labels.csv has the label tumor" in found["warned"]
    assert found["warned"].count("--map") == 1
    signs = table(label=lambda i: "-1" if i < 12 else "1")
    for first in (["--map=-1=benign"], ["--map", "-1=benign"]):
        assert evaluate(signs, *first, "--map", "1=malignant")["metrics"]["image_level"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("given", "options", "kind", "words"),
    [
        ("path,label\n0.png,x\n1.png,y\n", [], DataError, r"no label that the model knows \(x, y\).*--map WORD=CLASS"),
        ("path,label\nx.png,B\n", [], DataError, "none of the images of its 1 row is in .*x.png.*--images"),
        ("path,label\n/x/0.png,B\n", [], DataError, "first is /x/0.png; sub/0.png is there, in another folder"),
        ("path,kind\n0.png,B\n", [], DataError, "no column of labels .*it has path, kind.*--label"),
        ("Bild,label\n0.png,B\n", [], DataError, "needs a column 'path'.*it has Bild, label"),
        ("path,label\n", [], DataError, "a header but no rows"),
        ("path,label\n0.png,B\n0.png,M\n", [], DataError, "rows 2 and 3 give 0.png two labels or cases"),
        ("path,label,case\n0.png,B,a\n0.png,B,b\n", [], DataError, "rows 2 and 3 give 0.png two labels or cases"),
        ("path,label,case,Case\n0.png,B,a,a\n", [], DataError, "2 columns 'case'"),
        ("path,label,Label\n0.png,B,M\n", [], DataError, "2 columns 'label'"),
        ("path,label\nbroken.png,B\n", [], DataError, "none of the images has an answer .*broken.png"),
        ("path,label\n0.png,B\n", ["--label", "labl"], DataError, "no column 'labl'.*Did you mean 'label'"),
        ("path,label\n0.png,B\n", ["--map", "x=malign"], ParamsError, "WORD=CLASS.*Did you mean 'malignant'"),
        ("path,label\n0.png,B\n", ["--images", "nowhere"], DataError, "nowhere is not a folder"),
        ("path,label\n0.png,B\n", ["--out", "{csv}"], ParamsError, "is a file. Name a folder"),
        ("path,label\n0.png,B\n", ["--csv", "nowhere.csv"], ParamsError, "nowhere.csv is not a file"),
        ("path,label\n0.png,B\n", ["--model", "nowhere.onnx"], SourceError, "nowhere.onnx is not a file"),
    ],
)
def test_a_mistake_is_a_sentence_and_nothing_is_written(
    images: Path, tmp_path: Path, given: str, options: list[str], kind: type[BiopsyError], words: str
) -> None:
    (images / "broken.png").write_bytes((images / "sub/0.png").read_bytes()[:60])
    csv, out = tmp_path / "labels.csv", tmp_path / "out"
    csv.write_text(given)
    base = ["--model", str(write_onnx(tmp_path / "m.onnx")), "--images", str(images), "--out", str(out)]
    with pytest.raises(kind, match=words):
        command(["evaluate", "--csv", str(csv), *base, *(option.format(csv=csv) for option in options)])
    assert not out.exists()
    assert csv.read_text() == given


def test_images_unlike_those_of_the_training_are_counted_and_what_differs_is_named(
    evaluate: Evaluate, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views = np.stack([cv2.imread(str(images / f"sub/{i}.png"))[None, :32, :32, ::-1] for i in range(12)])
    training = looks_of_training(np.ascontiguousarray(views), [48] * 12, [48] * 12)
    model = write_onnx(tmp_path / "seen.onnx", DARK.model_copy(update={"training": training}))
    found = evaluate(table(), model=model)
    shift, rows = found["metrics"]["shift"], found["rows"]
    assert shift["numbers"]["density"]["outside"] >= 0.5
    assert shift["numbers"]["width"]["verdict"] == "alike"
    assert shift["unlike"] == (rows["unlike_training"] != "").sum() >= 12
    assert set(rows.loc[12:, "unlike_training"].str.split().str[0]) == {"density"}
    assert "unlike those of the training: most differ in stain strength" in found["page"]
    command(["predict", str(images / "sub"), "--model", str(model), "--out", str(tmp_path / "p.csv")])
    predicted = pd.read_csv(tmp_path / "p.csv", keep_default_na=False).set_index("image")["unlike_training"]
    assert predicted[str(images / "sub/20.png")].split()[0] == "density"
    assert f"{(predicted != '').sum()} of 24 images look unlike the training images" in capsys.readouterr().err
    assert "is not known: the model&#39;s card does not say" in evaluate(table())["page"]


def test_images_that_the_model_has_learnt_from_are_found_by_their_pixels(
    evaluate: Evaluate, images: Path, tmp_path: Path
) -> None:
    known = frozenset(pixel_key(hash_pixels(read_rgb(images / f"sub/{i}.png", 10_000))) for i in (0, 1, 20))
    found = evaluate(table(), model=write_onnx(tmp_path / "learnt.onnx", learnt_from=packed(known)))
    assert found["metrics"]["seen_in_training"] == 3
    says = "This figure is too high: the model was trained or validated on 3 of 24 images, pixel for pixel."
    assert says in found["page"]
    assert f"warning: {says} See the column 'in_training'" in found["warned"]
    assert list(found["rows"].index[found["rows"]["in_training"] == "True"]) == [0, 1, 20]
    assert evaluate(table())["metrics"]["seen_in_training"] is None


def test_each_look_answers_to_what_it_names_and_to_a_blank_image_with_what_it_has() -> None:
    rng = np.random.default_rng(0)
    tissue = (np.array([190, 110, 180]) + rng.normal(0, 20, (2, 64, 64, 3))).clip(0, 255).astype(np.uint8)
    plain = look_at(tissue)
    soft = look_at(np.stack([cv2.GaussianBlur(view, (7, 7), 3) for view in tissue]))
    dark = look_at((tissue * 0.5).astype(np.uint8))
    half = tissue.copy()
    half[:, :, :32] = 245
    assert soft["focus"] < plain["focus"] / 3
    assert soft["density"] == pytest.approx(plain["density"], abs=0.02)
    assert dark["density"] == pytest.approx(plain["density"] + np.log10(2), abs=0.02)
    assert dark["brightness"] == pytest.approx(plain["brightness"] / 2, abs=1)
    assert look_at(half)["tissue"] == pytest.approx(plain["tissue"] / 2, abs=0.05)
    assert look_at(half)["density"] == pytest.approx(plain["density"], abs=0.03)
    assert look_at(np.full((1, 64, 64, 3), 245, np.uint8)).keys() == {"focus", "brightness", "tissue"}


def test_ranges_hold_nine_tenths_and_far_is_half_a_range_further() -> None:
    found = ranges_of([{"focus": float(i)} for i in range(101)])
    assert found.ranges == {"focus": Range(low=5, median=50, high=95)}
    assert [found.unlike({"focus": value}) for value in (-41, -39, 96, 139, 141)] == [["focus"], [], [], [], ["focus"]]
    assert found.unlike({"density": 9.0}) == []
    alike = Range(low=700, median=700, high=700)
    assert [alike.far(value) for value in (660, 690, 734, 740)] == [True, False, False, True]
    with pytest.raises(ValueError, match="low <= median <= high"):
        Looks(images=1, ranges={"focus": Range(low=2, median=1, high=3)})
