"""The table of results, as `biopsy results` prints it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from biopsy.cli import command
from biopsy.core.errors import DataError
from biopsy.core.files import read_json, write_json
from biopsy.evaluation.figures import evaluate_outcome, summary
from biopsy.evaluation.outcome import make_outcome
from biopsy.experiments.results import EARLIER, NOTICE, SYNTHETIC, describe_results, shares_cases
from conftest import ROOT, assert_kind

EIGHT = ["A", "F", "PT", "TA", "DC", "LC", "MC", "PC"]


def write_result(
    root: Path, task: str, protocol: str, *, n: int = 60, lowest: int = 0, cases: int = 9, **more: Any
) -> None:
    """Write what `evaluate` writes of one model; truths below `lowest` are not tested."""
    classes = ["benign", "malignant"] if task == "binary" else EIGHT
    random = np.random.default_rng(5)
    truth = random.integers(lowest, len(classes), n)
    p = random.random((n, len(classes))) + np.eye(len(classes))[truth]
    groups = random.integers(0, cases, n).astype(str) if cases else np.array([""] * n)
    details = evaluate_outcome(make_outcome(truth, p, classes), groups, np.array(["40"] * n))
    about = {"task": task, "protocol": protocol, "synthetic": False, "classes_not_in_training": [], **more}
    write_json(root / "metrics" / f"{task}-{protocol}" / "details.json", {**about, **details})
    write_json(root / "metrics" / f"{task}-{protocol}" / "test.json", summary(details, 3))


def test_one_row_a_model_with_its_interval_and_its_protocol_explained(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "case")
    header, row, *_ = describe_results(tmp_path).splitlines()
    assert header.split("  ")[0] == "task"
    short = read_json(tmp_path / "metrics/binary-case/test.json")
    assert row.split() == [
        "binary", "case", "(honest)", f"{short['macro_f1']:.3f}", f"{short['f1_low']:.3f}-{short['f1_high']:.3f}",
        f"{short['bal_acc']:.3f}", f"{short['roc_auc']:.3f}", f"{short['case_f1']:.3f}", "60", "9",
    ]  # fmt: skip
    assert len(row) == len(header)


def test_tasks_and_protocols_stand_in_order_and_folds_by_number(tmp_path: Path) -> None:
    for name in ("case-10of10", "case", "fold1", "case-2of10", "image"):
        write_result(tmp_path, "binary", name, n=12)
    write_result(tmp_path, "multiclass", "image")
    rows = [line.split()[:2] for line in describe_results(tmp_path).splitlines()[1:7]]
    names = ["image", "case", "case-2of10", "case-10of10", "fold1"]
    assert rows == [["binary", name] for name in names] + [["multiclass", "image"]]


def test_rows_of_other_parameters_are_named(tmp_path: Path) -> None:
    """As after `dvc repro train`, or when params.yaml was edited."""
    write_result(tmp_path, "binary", "case")
    used = {"params.yaml": {"seed": 0}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"evaluate@binary-case": {"params": used}}}))
    told = "Made with other parameters or models than those of now: binary, case. Run `dvc repro`."
    for seed, stale in ((0, False), (1, True)):
        params = OmegaConf.merge(OmegaConf.load(ROOT / "params.yaml"), {"seed": seed})
        OmegaConf.save(params, tmp_path / "params.yaml")
        assert (told in describe_results(tmp_path)) == stale
    (tmp_path / "dvc.lock").write_text("<<<<<<< HEAD")
    assert told not in describe_results(tmp_path)


def test_the_widest_table_and_every_sentence_fit_a_hundred_columns(tmp_path: Path) -> None:
    write_result(tmp_path, "multiclass", "case-10of10", n=99_999, lowest=2, synthetic=True)
    write_result(tmp_path, "multiclass", "slide", n=12, lowest=7, cases=0, classes_not_in_training=EIGHT[:7])
    write_result(tmp_path, "binary", "image", n=1, cases=1)
    assert max(map(len, describe_results(tmp_path).splitlines())) <= 100


def test_an_undefined_figure_is_a_dash_with_its_reason_below(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "case", lowest=1, cases=0)
    text = describe_results(tmp_path)
    assert text.splitlines()[1].split()[4:] == ["-", "1.000", "-", "-", "60", "-"]
    for sentence in (
        "binary, case: 1 of 2 classes are tested, not benign.",
        "binary, case: no interval, 60 of 60 test images have no case.",
        "binary, case: no ROC-AUC, only 'malignant' is tested.",
        "binary, case: no case F1, 60 of 60 test images have no case.",
    ):
        assert sentence in text


def test_types_that_are_not_tested_or_never_trained_are_named(tmp_path: Path) -> None:
    write_result(tmp_path, "multiclass", "case", lowest=2, classes_not_in_training=["PC"])
    text = describe_results(tmp_path)
    assert "multiclass, case: 6 of 8 classes are tested, not A, F." in text
    assert "multiclass, case: no training image of PC." in text


def test_the_image_protocol_is_said_to_leak_and_how_much(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "image")
    write_json(tmp_path / "metrics/split.json", {"image": {"says": "58 of 64 test images come from slides seen"}})
    text = describe_results(tmp_path).replace("\n", " ")
    assert "Protocol image: 58 of 64 test images come from slides seen." in text
    assert "its figures are too high" in text


def test_a_table_without_the_image_protocol_warns_of_no_leak(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "case")
    assert "flatter" not in describe_results(tmp_path)


def test_the_official_fold_is_said_to_share_cases_and_how_many(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "fold1")
    write_json(tmp_path / "metrics/split.json", {"fold1": {"says": "9 of 64 test images come from cases seen"}})
    text = describe_results(tmp_path)
    assert "fold1 (shares cases)" in text.splitlines()[1]
    assert "Protocol fold1: 9 of 64 test images come from cases seen." in text
    assert shares_cases("fold1") in text.replace("\n", " ")


@pytest.mark.parametrize("name", ["audit", "eva"])
def test_the_test_slides_of_published_work_are_said_to_share_cases(tmp_path: Path, name: str) -> None:
    write_result(tmp_path, "binary", name)
    text = describe_results(tmp_path)
    assert f"{name} (shares cases)" in text.splitlines()[1]
    assert shares_cases(name) in text.replace("\n", " ")


def test_a_fold_table_of_the_users_own_is_not_called_the_official_fold(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "fold1")
    write_json(tmp_path / "metrics/split.json", {"fold1": {"says": "9 of 64", "fold_table": "own"}})
    text = describe_results(tmp_path).replace("\n", " ")
    assert "a fold table of your own (split.fold_table)" in text
    assert shares_cases("fold1") not in text


def test_synthetic_data_are_called_so_and_real_ones_are_not(tmp_path: Path) -> None:
    write_result(tmp_path, "binary", "case")
    assert SYNTHETIC not in describe_results(tmp_path)
    write_result(tmp_path, "binary", "case", synthetic=True)
    assert SYNTHETIC in describe_results(tmp_path)
    assert describe_results(tmp_path).endswith(NOTICE)


def test_rows_of_the_sample_beside_a_real_run_are_named_and_the_real_ones_are_not_called_synthetic(
    tmp_path: Path,
) -> None:
    write_result(tmp_path, "binary", "case")
    write_result(tmp_path, "binary", "image", synthetic=True)
    text = describe_results(tmp_path).replace("\n", " ")
    assert SYNTHETIC not in text
    assert "Of the synthetic sample, and nothing about tissue: binary, image. The other rows are of your" in text


def test_results_that_the_parameters_no_longer_list_stand_below_those_of_the_run(
    tmp_path: Path, set_params: Callable[..., Path]
) -> None:
    set_params({"tasks": ["binary"], "protocols": ["case"]})
    write_result(tmp_path, "binary", "case")
    write_result(tmp_path, "binary", "image", synthetic=True)
    now, earlier = describe_results(tmp_path).split(EARLIER)
    assert "binary  case" in now
    assert "binary  image" not in now
    assert "binary  image" in earlier
    assert SYNTHETIC in earlier
    set_params({"tasks": ["multiclass"], "protocols": ["case"]})  # nothing of it has run yet
    assert EARLIER not in describe_results(tmp_path)


def test_no_results_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics has no results.*dvc repro"):
        describe_results(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("details", None),
        ("details", "{"),
        ("details", "[]"),
        ("details", json.dumps({"task": "binary"})),
        ("test", "{}"),
    ],
)
def test_a_missing_or_broken_file_is_an_error_that_names_it(tmp_path: Path, name: str, content: str | None) -> None:
    write_result(tmp_path, "binary", "case")
    path = tmp_path / "metrics/binary-case" / f"{name}.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"metrics/binary-case.*(dvc repro|git checkout)"):
        describe_results(tmp_path)


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path, "binary", "case")
    command(["results", "--root", str(tmp_path)])
    assert capsys.readouterr().out == describe_results(tmp_path) + "\n"


def test_the_command_ends_in_a_sentence_and_a_code_where_there_is_nothing(tmp_path: Path) -> None:
    called = [sys.executable, "-m", "biopsy.cli", "results", "--root", str(tmp_path)]
    assert_kind(subprocess.run(called, cwd=ROOT, capture_output=True, text=True), "has no results", "dvc repro")
