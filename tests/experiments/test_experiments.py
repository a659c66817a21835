"""The page of experiments: figures over seeds, the report's beside them, failures with their reasons."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from biopsy.core.errors import DataError, ParamsError
from biopsy.experiments.page import (
    Preset,
    differences,
    experiments_page,
    read_preset,
    spread,
    with_kind,
    write_heads,
)
from biopsy.experiments.page_plot import plot_experiments
from biopsy.experiments.runs import Run, parse_runs
from conftest import ROOT

ADOPT = Preset("", ["train.optimizer=adopt"])
GREY = Preset("lower", ["resize.structure=grayscale"])


def run(preset: str, seed: int, f1: float, error: str = "") -> Run:
    figures = {
        f"{task}-{protocol}": {
            "test": {"macro_f1": f1 if protocol == "image" else f1 / 2},
            "train": {"val_accuracy": 0.9, "weights": 1000, "trainable": 10, "epochs": 12},
            "details": {"per_class": {"a": {"support": 5}, "b": {"support": 5}, "c": {"support": 0}}},
        }
        for task in ("binary", "multiclass")
        for protocol in ("image", "case")
    }
    return Run(preset, seed, {} if error else figures, error)


LOCK = """
stages:
  train@binary-case:
    deps: [{path: data/splits/case.csv, md5: s1}]
    outs: [{path: models/binary-case, md5: m1}]
  evaluate@binary-case:
    deps: [{path: models/binary-case, md5: m1}]
"""
COMMITTED = {
    "dvc.lock": LOCK,
    "metrics/binary-case/test.json": '{"macro_f1": 0.4}',
    "metrics/binary-case/train.json": '{"val_loss": 0.2}',
}


def shown(**params: Any) -> list[dict[str, Any]]:
    content = {"seed": 3, "tasks": ["binary"], "protocols": ["case"], **params}
    good = {"rev": "abc", "error": None, "data": {"params": {"params.yaml": {"data": content}}}}
    other = {"params": {"params.yaml": {"data": {**content, "seed": 4}}}}
    lost = {"rev": "def", "error": {"msg": "out of\nmemory"}, "data": other}
    empty = {"rev": "fff", "error": None, "data": None}
    queued = {"revs": [{**good, "rev": "abc"}], "executor": {"state": "queued"}}
    failed = {"revs": [lost, empty], "executor": {"state": "failed"}}
    base = {"experiments": [queued, {"revs": [good], "executor": None}, failed]}
    return [{"experiments": None}, base]


def nothing(rev: str, path: str) -> None:
    return None


def test_a_mean_stands_with_its_range_and_alone_where_there_is_one_seed() -> None:
    assert spread([0.5, 0.7, None]) == "0.60 (0.50..0.70)"
    assert spread([0.5]) == "0.50"
    assert spread([None]) == "-"
    assert spread([0.1, -0.1], sign="+") == "+0.00 (-0.10..+0.10)"


def test_runs_are_read_with_the_metrics_that_they_committed_and_failures_with_their_reason() -> None:
    good, lost = parse_runs(shown(experiment="adopt"), lambda rev, path: COMMITTED.get(path) if rev == "abc" else None)
    assert good.figures == {"binary-case": {"test": {"macro_f1": 0.4}, "train": {"val_loss": 0.2}}}
    assert (good.preset, good.seed, good.splits) == ("adopt", 3, {"binary-case": "s1"})
    assert (lost.preset, lost.seed, lost.figures, lost.error) == ("adopt", 4, {}, "out of memory")
    assert parse_runs(shown(), nothing)[0].preset == "baseline"


def test_a_model_that_was_trained_and_not_tested_has_not_the_test_figures_of_an_older_one() -> None:
    trained = {**COMMITTED, "dvc.lock": LOCK.replace("md5: m1", "md5: m2", 1)}
    assert parse_runs(shown(), lambda _, path: trained.get(path))[0].figures == {
        "binary-case": {"train": {"val_loss": 0.2}}
    }


def test_a_model_that_other_parameters_or_an_older_split_made_has_no_figures_here() -> None:
    params = "    params: {params.yaml: {train.min_lr: 1e-06}}\n    outs: [{path: models"
    split = "  split:\n    params: {params.yaml: {split: 0.7}}\n    outs: [{path: data/splits}]\n"
    committed = {**COMMITTED, "dvc.lock": LOCK.replace("    outs: [{path: models", params) + split}

    def kinds(**chosen: Any) -> list[str]:
        return list(parse_runs(shown(**chosen), lambda _, path: committed.get(path))[0].figures["binary-case"])

    assert kinds(train={"min_lr": 1e-6}, split=0.7) == ["train", "test"]
    assert kinds(train={"min_lr": 1e-5}, split=0.7) == []
    assert kinds(train={"min_lr": 1e-6}, split=0.8) == []


def test_an_experiment_that_waits_has_no_figures_yet_and_none_is_counted_twice() -> None:
    waiting = shown(experiment="adopt")
    del waiting[1]["experiments"][1:]
    assert parse_runs(waiting, lambda _, path: COMMITTED.get(path)) == []
    assert len(parse_runs(shown() + shown(), nothing)) == 2


def test_runs_of_one_preset_that_differ_in_more_than_the_seed_are_told_apart() -> None:
    runs = parse_runs(shown(train={"batch": 8}) + shown(train={"batch": 16}), nothing)
    assert {run.preset for run in runs} == {"baseline with train.batch=8", "baseline with train.batch=16"}
    many = parse_runs(shown(a=1, b=2, c=3, d=4) + shown(a=5, b=6, c=7, d=8), nothing)
    assert [run.preset for run in many if not run.error] == [
        "baseline with a=1, b=2, c=3 and 1 more, variant 1",
        "baseline with a=5, b=6, c=7 and 1 more, variant 2",
    ]
    page = experiments_page([replace(run("adopt", 0, 0.5), preset="adopt with a=1")], {"adopt": ADOPT}, "")
    assert "|`adopt with a=1`|`train.optimizer=adopt`|" in page
    assert "Not run" not in page


def test_a_failure_shows_what_its_log_says_and_a_later_success_takes_its_place(tmp_path: Path) -> None:
    answer = shown()
    groups = answer[1]["experiments"]
    (tmp_path / "log").write_text("> python stages/train.py\nerror: no disk\nleft.\nERROR: failed to reproduce\n")
    groups[2]["executor"]["local"] = {"log": str(tmp_path / "log")}
    assert [found.error for found in parse_runs(answer, nothing)] == ["", "no disk"]
    groups.append({"revs": [{**groups[2]["revs"][0], "error": None}], "executor": None})
    assert [found.error for found in parse_runs(answer, nothing)] == ["", ""]


def test_a_gain_is_that_over_the_baseline_of_the_same_seed() -> None:
    baseline = [run("baseline", 0, 0.5), run("baseline", 2, 0.7)]
    gains = differences([run("adopt", 0, 0.6), run("adopt", 1, 0.9), run("adopt", 2, 0.6)], baseline, "binary-image")
    assert gains == pytest.approx([0.1, -0.1])
    elsewhere = replace(baseline[0], splits={"binary-image": "other"})
    assert differences([run("adopt", 0, 0.6)], [elsewhere], "binary-image") == []


def test_the_reports_finding_goes_on_over_lines_until_the_next_entry(tmp_path: Path) -> None:
    path = tmp_path / "l2.yaml"
    path.write_text("# Weights.\n# Report: helped, but gives\n# no number.\n# Cost: none.\nmodel: {head: {l2: 0.1}}\n")
    assert read_preset(path) == Preset("helped, but gives no number.", ["model.head.l2=0.1"])


@pytest.mark.parametrize("content", [b"model: {head: ", b"- a list", b"text", b"# \xe4\nseed: 1"])
def test_a_preset_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=r"mine\.yaml is not a preset: .*\. Correct it\."):
        read_preset(tmp_path / "mine.yaml")


def test_heads_get_what_was_measured_and_those_of_presets_not_run_stay(tmp_path: Path) -> None:
    for name in ("adopt", "grayscale"):
        (tmp_path / f"{name}.yaml").write_text("# A.\n# Measured: see docs/experiments.md\na: 1\n")
    write_heads(tmp_path, [run("baseline", 0, 0.9), run("adopt", 0, 0.8), run("adopt", 1, 0.6)])
    assert (tmp_path / "grayscale.yaml").read_text() == "# A.\n# Measured: see docs/experiments.md\na: 1\n"
    assert (tmp_path / "adopt.yaml").read_text() == (
        "# A.\n# Measured: macro-F1 binary-image 0.70, binary-case 0.35, multiclass-image 0.70, multiclass-case 0.35 "
        "(2 seeds; docs/experiments.md)\na: 1\n"
    )


def test_the_heads_in_the_repository_say_what_its_page_says_and_the_page_names_every_preset() -> None:
    page = (ROOT / "docs/experiments.md").read_text("utf-8")
    measured = {row.split("|")[1].strip("`"): row.split("|") for row in page.splitlines() if row.startswith("|`")}
    assert len(measured) > 20
    for path in (ROOT / "conf/experiment").glob("*.yaml"):
        head, name = path.read_text("utf-8"), path.stem
        assert f"`{name}`" in page, name
        if name not in measured and "# Measured: " in head:
            assert "# Measured: not on this base; docs/experiments.md says why\n" in head, name
        elif name in set(measured) - {"recommended"}:  # the base, whose head tells more
            _, _, difference, _, verdict, *_ = measured[name]
            assert re.search(
                rf"# Measured: against `.*`, binary-case {re.escape(f'{difference} ({verdict})')}", head
            ), name


def test_all_runs_are_drawn_one_dot_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plot_experiments([run("baseline", 0, 0.8), run("adopt", 0, 0.7), run("adopt", 1, 0, "lost")], tmp_path / "a.png")
    assert mpl.image.imread(tmp_path / "a.png").std() > 0.01
    assert (with_kind("image"), with_kind("case-cv5")) == ("image (leaks)", "case-cv5 (honest)")
    drawn: list[Any] = []
    monkeypatch.setattr("biopsy.experiments.page_plot.plt.close", drawn.append)
    plot_experiments([run("adopt", 0, 0.7)], tmp_path / "a.png")
    assert not drawn[0].get_suptitle()  # no dotted line without a baseline
    with pytest.raises(DataError, match="dvc exp run"):
        plot_experiments([], tmp_path / "b.png")


def test_the_page_has_every_experiment_with_its_figures_costs_and_the_reports() -> None:
    runs = [run("baseline", 0, 0.8), run("baseline", 1, 0.6), run("grayscale", 0, 0.5), run("adopt", 0, 0, "no disk")]
    page = experiments_page(runs, {"adopt": ADOPT, "grayscale": GREY, "cnn": ADOPT}, "On 421 images.")
    assert "On 421 images." in page
    guess = "0.33 (0.33..0.33)|-0.37 (-0.47..-0.27)|-|0.33 (0.33..0.33)|-0.02 (-0.07..+0.03)"
    assert f"|`always the commonest class`|2|-|{guess}|" in page
    assert "|`baseline`|2|0.90|0.70 (0.60..0.80)|-|0.90|0.35 (0.30..0.40)|-|" in page
    assert "|`grayscale`|1|0.90|0.50|-0.30|0.90|0.25|-0.15|" in page
    assert "|`grayscale`|`resize.structure=grayscale`|1,000 (10)|12|lower|" in page
    assert "- adopt, seed 0: no disk" in page
    assert page.endswith("## Not run here\n\n`cnn`.\n")
    assert page.index("`baseline`") < page.index("`grayscale`")


def test_the_page_says_how_far_seeds_lie_apart() -> None:
    page = experiments_page([run("baseline", 0, 0.8), run("baseline", 1, 0.6)], {}, "")
    assert "0.10 on average (binary; at most 0.10)" in page
    assert "One seed says nothing" in experiments_page([run("baseline", 0, 0.8)], {}, "")


def test_no_experiment_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DataError, match="dvc exp run"):
        experiments_page([], {}, "")
    with pytest.raises(DataError, match=r"no experiment here ended well\. a, seed 0: no lions here"):
        experiments_page([Run("a", 0, {}, "no lions here")], {}, "")


@pytest.mark.parametrize("path", sorted((ROOT / "conf/experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_says_what_it_is_and_what_it_changes(path: Path) -> None:
    preset = read_preset(path)
    head = [line for line in path.read_text("utf-8").splitlines() if line.startswith("# ") and "@package" not in line]
    assert len(head[0]) > 10
    assert preset.changes
    assert not any(change.startswith("experiment") for change in preset.changes)
