"""A cross-validation from end to end: folds trained one after the other, pooled out-of-fold figures."""

import runpy
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import f1_score, roc_auc_score
from stained import tissue

from biopsy.core.errors import DataError
from biopsy.core.files import read_csv, write_csv
from biopsy.core.job import Job
from biopsy.core.params import Params, read_params
from biopsy.core.sections.data import Split, Stain
from biopsy.evaluation.answers import pool
from biopsy.evaluation.appearance import features_of
from biopsy.evaluation.outcome import make_outcome
from biopsy.evaluation.predictions import Answers
from biopsy.experiments.results import describe_results
from biopsy.images.preparation.record import read_preparation, write_preparation
from biopsy.networks.model_file import read_card
from biopsy.tables.split.splits import make_split
from biopsy.training.train_model import mean_figures
from conftest import ROOT, one_pixel_pictures, steps_without_graphs
from tiny import make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_training")

NAME = "binary-case-cv3"
SHORT = {"resize.size": 32, "train.epochs": 2, "train.batch": 16, "protocols": ["case-cv3"]}


class StoppedError(Exception):
    """What stands for the end of a process between two folds."""


def stage(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / f"stages/{name}.py"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Params]:
    """A project whose cross-validation was stopped in its third fold, run again and tested; what the second said."""
    with one_pixel_pictures(), steps_without_graphs():
        return stopped_and_gone_on(tmp_path_factory.mktemp("cv"))


def stopped_and_gone_on(root: Path) -> tuple[Path, str, Params]:
    make_project(root, per_class=3, protocols=())
    table = read_csv(root / "data/interim/labels.csv")
    for protocol in ("case-cv3", "case-3of3"):
        split = make_split(table.assign(pixels_sha256=table["image_id"]), ["binary"], protocol, Split(), 0)
        write_csv(root / "data/splits" / f"{protocol}.csv", split)
        write_preparation(root / "data/stained" / protocol, read_preparation(root / "data/resized"))
    content = OmegaConf.load(ROOT / "params.yaml")
    for key, value in SHORT.items():
        OmegaConf.update(content, key, value)
    OmegaConf.save(content, root / "params.yaml")
    params, train = read_params(root / "params.yaml"), stage("train")
    names, train_model = train["train"].__globals__, train["train_model"]

    def stops_in_the_third(params: Params, job: Any, code: str) -> Any:
        if job.fold.index == 3:
            raise StoppedError
        return train_model(params, job, code)

    names["train_model"] = stops_in_the_third
    with pytest.raises(StoppedError):
        names["train"](params, "binary", "case-cv3", root)
    assert not (root / "metrics" / NAME).exists()
    names["train_model"] = train_model
    with redirect_stdout(StringIO()) as said:
        names["train"](params, "binary", "case-cv3", root)
    stage("evaluate")["evaluate"](params, "binary", "case-cv3", root)
    return root, said.getvalue(), params


def test_folds_that_were_finished_are_not_trained_again(done: tuple[Path, str, Params]) -> None:
    root, said, _ = done
    assert said.count("2 epochs, kept epoch") == 3
    assert f"train {NAME}: 3 folds, mean val_loss" in said
    assert {path.name for path in (root / "models" / NAME).iterdir()} == {"1-1", "1-2", "1-3"}
    assert not (root / "models/.resume" / NAME).exists()
    for fold in ("1-1", "1-2", "1-3"):
        assert read(root / "models" / NAME / fold / "model.json")["fold"] == fold
        assert (root / "plots" / NAME / "train" / fold / "curves.png").is_file()
    figures = read(root / "metrics" / NAME / "train.json")
    assert (figures["folds"], figures["epochs"], figures["train_images"]) == (3, 2, 8)


def test_the_temperature_of_a_fold_rests_on_the_validation_images_of_all_but_on_none_that_it_tests(
    done: tuple[Path, str, Params],
) -> None:
    root, said, _ = done
    folds = pd.read_csv(root / "data/splits/case-cv3.csv").set_index("image_id")["repeat_1"]
    for number in (1, 2, 3):
        found = read(root / "models" / NAME / f"1-{number}/model.json")["calibration"]
        assert (found["part"], found["images"], found["reason"]) == ("folds", int((folds != number).sum()), None)
    assert said.count(": temperature ") == 3


def test_a_fold_is_what_it_is_when_trained_alone(done: tuple[Path, str, Params]) -> None:
    """So the folds before it, and the stop, leave no trace."""
    root, _, params = done
    stage("train")["train"](params, "binary", "case-3of3", root)
    alone, fold = (root / "models" / name / "model.keras" for name in ("binary-case-3of3", f"{NAME}/1-3"))
    assert alone.read_bytes() == fold.read_bytes()


def test_figures_are_pooled_over_images_that_are_each_tested_once(done: tuple[Path, str, Params]) -> None:
    root, *_ = done
    folds = pd.read_csv(root / "data/splits/case-cv3.csv").set_index("image_id")["repeat_1"]
    for ending, name, step in (("", "test", 0), ("-val", "val", 1)):
        table = pd.read_csv(root / "data/predictions" / f"{NAME}{ending}.csv")
        assert table["image_id"].tolist() == sorted(folds.index)
        tested = table["fold"].str.removeprefix("1-").astype(int)
        assert ((tested + step - 1) % 3 + 1 == folds[table["image_id"]].to_numpy()).all()
        short = read(root / "metrics" / NAME / f"{name}.json")
        assert short["macro_f1"] == round(f1_score(table["truth"], table["predicted"], average="macro"), 3)
        assert short["roc_auc"] == round(roc_auc_score(table["truth"] == "malignant", table["p_malignant"]), 3)
        if name == "test":
            scores = [f1_score(t["truth"], t["predicted"], average="macro") for _, t in table.groupby("fold")]
    details = read(root / "metrics" / NAME / "details.json")
    assert (details["images"], details["cases"]) == (24, 24)
    assert (details["sets"]["cases"], details["sets"]["from"]) == (24, "folds")
    looks = pd.read_csv(root / "data/predictions" / f"{NAME}-images.csv")
    assert looks["image_id"].tolist() == table["image_id"].tolist()
    assert looks["part"].value_counts().to_dict() == {"train": 8, "val": 8, "test": 8}  # of the first fold
    assert features_of(looks).std() > 0
    assert [row["macro_f1"] for row in details["folds"]["rows"]] == pytest.approx(scores, abs=1e-6)
    assert details["folds"]["mean"]["macro_f1"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert details["folds"]["sd"]["macro_f1"] == pytest.approx(np.std(scores, ddof=1), abs=1e-6)


def test_the_results_have_one_row_for_all_folds(done: tuple[Path, str, Params]) -> None:
    lines = describe_results(done[0]).splitlines()
    assert [line for line in lines if line.startswith("binary  case-cv3 (honest)")] == lines[1:2]


def test_a_fold_is_not_tested_with_the_model_of_another(done: tuple[Path, str, Params]) -> None:
    root, _, params = done
    one, other = (root / "models" / NAME / fold for fold in ("1-1", "1-2"))
    spare = one.rename(root / "models/spare")
    other.rename(one)
    try:
        with pytest.raises(DataError, match=r"binary-case-cv3.1-1 is a model of binary, case-cv3, fold 1-2"):
            stage("evaluate")["evaluate"](params, "binary", "case-cv3", root)
    finally:
        one.rename(other)
        spare.rename(one)


def test_each_fold_is_trained_and_tested_on_images_of_its_own_stain(
    done: tuple[Path, str, Params], tmp_path: Path
) -> None:
    params = done[2].model_copy(update={"stain": Stain(method="macenko")})
    table = make_project(tmp_path, per_class=3, protocols=())
    for i, image_id in enumerate(table["image_id"]):
        image = cv2.resize(tissue(i, strength=0.6 + 0.02 * i), (32, 32), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / "data/resized" / f"{image_id}.png"), image[..., ::-1])
    (tmp_path / "data/splits").mkdir()
    shutil.copy(done[0] / "data/splits/case-cv3.csv", tmp_path / "data/splits")
    stage("stain")["stain"](params, "case-cv3", tmp_path)
    stage("train")["train"](params, "binary", "case-cv3", tmp_path)
    stage("evaluate")["evaluate"](params, "binary", "case-cv3", tmp_path)
    fitted = read(tmp_path / "metrics/stain-case-cv3.json")["folds"]
    cards = {fold: read_card(tmp_path / "models" / NAME / fold).preparation.stain for fold in fitted}
    assert {fold: list(stain.spreads) for fold, stain in cards.items() if stain} == {
        fold: found["spreads"] for fold, found in fitted.items()
    }
    assert len({stain.spreads for stain in cards.values() if stain}) == 3
    assert len(pd.read_csv(tmp_path / "data/predictions" / f"{NAME}.csv")) == 24


def test_repeats_are_pooled_one_by_one() -> None:
    def answers(ids: list[str], p: list[float]) -> Any:
        outcome = make_outcome(np.array([0] * len(p)), np.stack([1 - np.array(p), np.array(p)], 1), ["a", "b"])
        return Answers(pd.DataFrame({"image_id": ids}), outcome, np.array(p))

    given = [answers(ids, p) for ids, p in ((["c"], [0.3]), (["a"], [0.1]), (["b"], [0.2]))]
    jobs = Job("binary", "case-cv3x2").each
    pooled = pool(list(zip(jobs, given * 2, strict=True)))
    assert [one.rows["image_id"].tolist() for one in pooled] == [["a", "b", "c"]] * 2
    np.testing.assert_allclose(pooled[1].outcome.probabilities[:, 1], [0.1, 0.2, 0.3])
    assert pooled[1].temperatures.tolist() == [0.1, 0.2, 0.3]  # in the same order


def test_a_score_that_one_fold_does_not_define_has_no_mean() -> None:
    folds = [{"val_loss": 0.2, "val_auc": 0.8}, {"val_loss": 0.4}]
    for given in (folds, folds[::-1]):
        assert mean_figures(given) == {"folds": 2, "val_loss": pytest.approx(0.3)}
