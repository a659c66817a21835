"""`stages/evaluate.py` as a user runs it, on a model that knows the drawn classes by their brightness."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from biopsy.core.errors import DataError
from biopsy.core.files import sha256
from biopsy.core.labels import Labels
from biopsy.core.owned import note_made
from biopsy.core.params import read_params
from biopsy.core.sections.data import Resize
from biopsy.images.preparation.record import Stains, read_preparation, write_preparation
from biopsy.tables.labels.scheme import LabelScheme, write_scheme
from biopsy.tables.split.parts import hash_images
from conftest import ROOT, assert_kind
from schemes import BREAKHIS, LABELS
from tiny import ORDER, make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures")

SIZE = 32


def write_model(root: Path, task: str, weight: float = 1.0, **card: Any) -> None:
    """Save a model that takes the nearest mean colour of `make_project` for the class."""
    from biopsy.networks.backend import keras
    from biopsy.networks.model_file import Card, save_model

    inputs = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    units, activation = (1, "sigmoid") if task == "binary" else (8, "softmax")
    outputs = keras.layers.Dense(units, activation)(pooled)
    model = keras.Model(inputs, outputs)
    means = 40 + 25 * np.arange(8)
    # -(x - mean)^2 up to what all classes share; binary: above the mean between the fourth and the fifth.
    kernel, bias = (np.array([1.0]), np.array([-127.5])) if task == "binary" else (2 * means, -(means**2))
    model.layers[-1].set_weights([np.tile(kernel / 3, (3, 1)) * weight / 50, bias * weight / 50])
    folder = root / "models" / f"{task}-case"
    folder.mkdir(parents=True)
    split = pd.read_csv(root / "data/splits/case.csv")
    pixels = {
        f"{part}_pixels": hash_images([root / f"data/resized/{i}.png" for i in sorted(rows["image_id"])], SIZE)
        for part, rows in split.groupby("part")
    }
    files = {"labels": root / "data/interim/labels.csv", "split": root / "data/splits/case.csv"}
    about = {
        "task": task, "protocol": "case", "labels": BREAKHIS, "preprocessing": "none", "threshold": 0.5,
        "preparation": read_preparation(root / "data/stained/case"), "synthetic": True,
        "backbone_weights_sha256": None, "params": {}, "keras": keras.__version__,
        "data": {what: sha256(file) for what, file in files.items()} | pixels,
    }  # fmt: skip
    save_model(model, folder, Card(**{**about, **card}))


@pytest.fixture
def project(tmp_path: Path, set_params: Callable[..., Path]) -> Path:
    make_project(tmp_path, size=SIZE)
    set_params({"resize.size": SIZE})
    return tmp_path


def outputs(root: Path) -> dict[str, bytes]:
    folders = ("metrics", "plots", "data/predictions")
    return {str(p): p.read_bytes() for folder in folders for p in sorted((root / folder).rglob("[!.]*")) if p.is_file()}


def evaluate(root: Path, task: str) -> None:
    """Run the stage in this process, since starting one costs seconds."""
    stage = runpy.run_path(str(ROOT / "stages/evaluate.py"))
    stage["evaluate"](read_params(root / "params.yaml"), task, "case", root)


def test_a_good_model_scores_one_and_two_runs_leave_the_same_bytes(project: Path, run_alone: Any) -> None:
    write_model(project, "binary")
    result = run_alone("evaluate", "--task", "binary", "--protocol", "case")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout == "evaluate binary-case: macro-F1 1.0 on 8 test images -> metrics/binary-case/test.json\n"
    short, details = (read(project / f"metrics/binary-case/{name}.json") for name in ("test", "details"))
    too_few = {"f1_low": None, "f1_high": None}  # 8 cases
    assert short == dict.fromkeys(("macro_f1", "bal_acc", "roc_auc", "case_f1"), 1.0) | too_few
    assert (details["images"], details["cases"], details["synthetic"]) == (8, 8, True)
    plots = {p.name for p in (project / "plots/binary-case/test").iterdir()}
    assert plots == {f"{n}.{s}" for n in ("confusion", "roc", "pr", "magnification") for s in ("csv", "png")} | {
        "errors.png"
    }
    first = outputs(project)
    (project / "plots/binary-case/test/stale.png").write_text("an earlier run's")
    note_made(project / "plots/binary-case/test")
    # In a process of its own too: where oneDNN is off, the last digit depends on where in memory an array lies.
    assert run_alone("evaluate", "--task", "binary", "--protocol", "case").returncode == 0
    assert outputs(project) == first


def test_the_predictions_name_each_test_image_once_with_its_case_and_all_probabilities(project: Path) -> None:
    write_model(project, "multiclass")
    evaluate(project, "multiclass")
    table = pd.read_csv(project / "data/predictions/multiclass-case.csv", dtype={"case": str})
    assert list(table.columns[:6]) == ["image_id", "slide", "case", "magnification", "truth", "predicted"]
    assert table["image_id"].tolist() == sorted(f"{name}-005" for name in ORDER)
    assert table["case"].tolist() == [f"{ORDER.index(image_id[:-4])}5" for image_id in table["image_id"]]
    assert (table["truth"] == table["predicted"]).all()
    assert table.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.9])
def test_the_threshold_of_the_card_decides(project: Path, threshold: float) -> None:
    write_model(project, "binary", threshold=threshold)
    evaluate(project, "binary")
    table = pd.read_csv(project / "data/predictions/binary-case.csv")
    assert (table["predicted"] == np.where(table["p_malignant"] >= threshold, "malignant", "benign")).all()
    called = int((table["predicted"] == "malignant").sum())
    assert (called > 4) - (called < 4) == (threshold < 0.5) - (threshold > 0.5)
    details = read(project / "metrics/binary-case/details.json")
    assert (details["threshold"], details["image_level"]["accuracy"] == 1) == (threshold, threshold == 0.5)


def test_a_temperature_of_2_is_half_the_logit_of_every_written_probability(project: Path) -> None:
    tables, details = [], []
    for weight, temperature in ((0.5, 1.0), (1.0, 2.0)):
        shutil.rmtree(project / "models/binary-case", ignore_errors=True)
        write_model(project, "binary", weight, temperature=temperature)
        evaluate(project, "binary")
        tables.append([pd.read_csv(project / f"data/predictions/binary-case{end}.csv") for end in ("", "-val")])
        details.append(read(project / "metrics/binary-case/details.json"))
    for half, calibrated in zip(*tables, strict=True):
        assert calibrated["p_malignant"].to_numpy() == pytest.approx(half["p_malignant"].to_numpy(), abs=1e-6)
    assert [one["models"][0]["temperature"] for one in details] == [1.0, 2.0]
    assert details[1]["calibration"]["after"] == details[0]["calibration"]["after"]
    assert details[1]["calibration"]["before"]["log_loss"] < details[1]["calibration"]["after"]["log_loss"]
    assert details[1]["operating_point"]["image"]["val"]["sensitivity"]["share"] == 1


def test_types_that_training_or_test_lacks_are_named(project: Path) -> None:
    split = pd.read_csv(project / "data/splits/case.csv")
    split.loc[split["image_id"].str.startswith("A-"), "part"] = "train"
    split.loc[split["image_id"].str.startswith("PC-"), "part"] = "test"
    split.to_csv(project / "data/splits/case.csv", index=False)
    write_model(project, "multiclass")
    evaluate(project, "multiclass")
    details = read(project / "metrics/multiclass-case/details.json")
    assert (details["classes_not_in_test"], details["classes_not_in_training"]) == (["A"], ["PC"])
    assert details["per_class"]["PC"]["support"] == 6


def test_a_type_that_a_probe_learnt_from_validation_is_not_called_unseen(project: Path) -> None:
    from biopsy.networks.validation import write_validation

    split = pd.read_csv(project / "data/splits/case.csv")
    of_type = split.index[split["image_id"].str.startswith("PC-")]
    split.loc[of_type, "part"] = ["val", *["test"] * (len(of_type) - 1)]
    split.to_csv(project / "data/splits/case.csv", index=False)
    ids = sorted(split.loc[split["part"] == "val", "image_id"])
    write_model(project, "multiclass")
    evaluate(project, "multiclass")
    assert read(project / "metrics/multiclass-case/details.json")["classes_not_in_training"] == ["PC"]
    folder, given = project / "models/multiclass-case", np.full((len(ids), 8), 1 / 8, np.float32)
    data = read(folder / "model.json")["data"] | {"validation": write_validation(folder, ids, given)}
    shutil.rmtree(folder)
    write_model(project, "multiclass", data=data)
    write_validation(folder, ids, given)
    evaluate(project, "multiclass")
    assert read(project / "metrics/multiclass-case/details.json")["classes_not_in_training"] == []


def test_a_model_of_another_task_is_refused_and_earlier_figures_stay(project: Path) -> None:
    write_model(project, "binary", protocol="image")
    before = outputs(project)
    with pytest.raises(DataError, match=r"models/binary-case is a model of binary, image.*dvc repro"):
        evaluate(project, "binary")
    assert outputs(project) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resize": Resize(size=SIZE, mode="crop")}, "resize.mode: crop, not stretch"),
        ({"resize": Resize(size=SIZE, structure="grayscale")}, "resize.structure: grayscale, not rgb"),
        (
            {"stain": Stains(method="reinhard", directions=(70.0, 20.0, -11.0), spreads=(9.0, 7.0, 5.0))},
            "stain: reinhard, not none",
        ),
    ],
)
def test_a_model_is_not_tested_on_images_of_another_preparation(
    project: Path, change: dict[str, Any], words: str
) -> None:
    preparation = read_preparation(project / "data/resized").model_copy(update=change)
    write_model(project, "binary", preparation=preparation)
    with pytest.raises(DataError, match=rf"models/binary-case was trained on images of other kind.*{words}.*dvc repro"):
        evaluate(project, "binary")
    assert not (project / "metrics/binary-case/test.json").exists()
    write_preparation(project / "data/stained/case", preparation)
    if preparation.stain:
        for path in (project / "data/resized").glob("*.png"):
            (project / "data/stained/case" / path.name).symlink_to(path)
    evaluate(project, "binary")
    assert read(project / "metrics/binary-case/test.json")["macro_f1"] == 1


def test_a_model_is_not_tested_on_other_pixels_than_those_it_was_made_for(project: Path) -> None:
    write_model(project, "binary")
    image = project / "data/resized/A-005.png"  # of the test part
    content = image.read_bytes()
    cv2.imwrite(str(image), 255 - cv2.imread(str(image)))
    with pytest.raises(DataError, match=r"models/binary-case was made for other test images than those in.*dvc repro"):
        evaluate(project, "binary")
    assert not (project / "metrics/binary-case/test.json").exists()
    image.write_bytes(content)
    evaluate(project, "binary")


def test_a_model_of_another_label_scheme_is_not_tested(project: Path) -> None:
    write_model(project, "binary")
    other = {**LABELS, "tasks": {**LABELS["tasks"], "binary": {**LABELS["tasks"]["binary"], "positive": []}}}
    write_scheme(project / "models/labels.json", LabelScheme.of(Labels.model_validate(other)))
    with pytest.raises(DataError, match=r"models/binary-case was trained with another label scheme.*dvc repro"):
        evaluate(project, "binary")


@pytest.mark.parametrize("what", ["split", "labels"])
def test_a_model_is_not_tested_under_another_split_or_other_labels(project: Path, what: str) -> None:
    write_model(project, "binary")
    evaluate(project, "binary")
    before = outputs(project)
    if what == "split":
        path, words = project / "data/splits/case.csv", {"train": "test", "test": "train"}
    else:
        path, words = project / "data/interim/labels.csv", {"40": "100", "100": "40"}
    table = pd.read_csv(path, dtype=str)
    table.replace(words).to_csv(path, index=False)
    with pytest.raises(
        DataError, match=rf"models/binary-case was trained with other {what} than .*{path.name}.*dvc repro"
    ):
        evaluate(project, "binary")
    assert outputs(project) == before


def test_a_model_that_diverged_is_an_error_and_not_a_score(project: Path) -> None:
    write_model(project, "binary", weight=np.nan)
    with pytest.raises(DataError, match=r"no number for 8 of 8 test images.*train\.learning_rate"):
        evaluate(project, "binary")
    assert not (project / "metrics/binary-case/test.json").exists()


def test_the_command_ends_in_a_sentence_where_there_is_no_model(project: Path, run_stage: Any) -> None:
    assert_kind(run_stage("evaluate", "--task", "binary", "--protocol", "case"), "models/binary-case", "dvc repro")
