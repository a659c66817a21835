"""The page of experiments: figures over seeds, the report's beside them, failures with their reasons."""

from pathlib import Path
from typing import Any

import pytest

from biopsy.errors import DataError
from biopsy.experiments import Preset, Run, experiments_page, parse_runs, read_preset, spread
from conftest import ROOT

ADOPT = Preset("The ADOPT optimiser", "", ["train.optimizer=adopt"])
GREY = Preset("Grey images", "lower", ["resize.structure=grayscale"])


def run(preset: str, seed: int, f1: float, error: str = "") -> Run:
    figures = {
        f"{task}-{protocol}": {
            "test": {"macro_f1": f1 if protocol == "image" else f1 / 2},
            "train": {"val_accuracy": 0.9, "weights": 1000, "trainable": 10},
            "cost": {"seconds_per_epoch": 1.5, "peak_mb": 700},
        }
        for task in ("binary", "multiclass")
        for protocol in ("image", "case")
    }
    return Run(preset, seed, {} if error else figures, error)


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


def test_a_mean_stands_with_its_range_and_alone_where_there_is_one_seed() -> None:
    assert spread([0.5, 0.7, None]) == "0.60 (0.50-0.70)"
    assert spread([0.5]) == "0.50"
    assert spread([None]) == "-"


def test_runs_are_read_with_the_metrics_that_they_committed_and_failures_with_their_reason() -> None:
    held = {"metrics/binary-case/test.json": {"macro_f1": 0.4}}
    good, lost = parse_runs(shown(experiment="adopt"), lambda rev, path: held.get(path) if rev == "abc" else None)
    assert good == Run("adopt", 3, {"binary-case": {"test": {"macro_f1": 0.4}}})
    assert lost == Run("adopt", 4, {}, "out of memory")
    assert parse_runs(shown(), lambda *_: None)[0].preset == "baseline"


def test_an_experiment_that_waits_has_no_figures_yet_and_none_is_counted_twice() -> None:
    waiting = shown(experiment="adopt")
    del waiting[1]["experiments"][1:]
    assert parse_runs(waiting, lambda *_: {"macro_f1": 0.9}) == []
    twice = shown() + shown()
    assert len(parse_runs(twice, lambda *_: None)) == 2


def test_the_page_has_every_experiment_with_its_figures_costs_and_the_reports() -> None:
    runs = [run("baseline", 0, 0.8), run("baseline", 1, 0.6), run("grayscale", 0, 0.5), run("adopt", 0, 0, "no disk")]
    page = experiments_page(runs, {"adopt": ADOPT, "grayscale": GREY, "cnn": ADOPT}, "On 421 images.")
    assert "On 421 images." in page
    assert "| `baseline` | 2 | 0.90 (0.90-0.90) | 0.70 (0.60-0.80) | 0.90 (0.90-0.90) | 0.35 (0.30-0.40) | - |" in page
    assert "| `grayscale` | 1 | 0.90 | 0.50 | 0.90 | 0.25 | lower |" in page
    assert "| `grayscale` | Grey images | `resize.structure=grayscale` | 1,000 (10) | 1.50 | 700 |" in page
    assert "- adopt, seed 0: no disk" in page
    assert "- `cnn`: The ADOPT optimiser." in page
    assert page.index("`baseline`") < page.index("`grayscale`")


def test_the_page_says_how_far_seeds_lie_apart() -> None:
    page = experiments_page([run("baseline", 0, 0.8), run("baseline", 1, 0.6)], {}, "")
    assert "binary task moves by 0.10 on average, and by up to 0.10" in page
    assert "One seed alone" in experiments_page([run("baseline", 0, 0.8)], {}, "")


def test_no_experiment_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DataError, match="dvc exp run"):
        experiments_page([], {}, "")


@pytest.mark.parametrize("path", sorted((ROOT / "conf/experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_says_what_it_is_and_what_it_changes(path: Path) -> None:
    preset = read_preset(path)
    assert 10 < len(preset.says) < 200
    assert preset.changes
    assert not any(change.startswith("experiment") for change in preset.changes)
