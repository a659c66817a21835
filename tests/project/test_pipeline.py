"""The whole pipeline under DVC, in a scratch copy of this repository, as a stranger would run it."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from scratch import SMALL, UNDRAWN, call, clone, environment


@pytest.fixture(scope="module")
def project(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the project that was run, with its data."""
    return clone(origin, tmp_path_factory.mktemp("pipeline"))


def test_the_sample_goes_from_its_csv_to_tested_models(project: Path) -> None:
    for task in ("binary", "multiclass"):
        for protocol in ("image", "case"):
            name = f"{task}-{protocol}"
            figures = json.loads((project / "metrics" / name / "test.json").read_text())
            assert 0 <= figures["macro_f1"] <= 1
            assert (project / "models" / name / "model.keras").is_file()
            assert (project / "plots" / name / "test/confusion.png").is_file()
            assert (project / "plots" / name / "train/curves.png").is_file()
            assert (project / "data/predictions" / f"{name}.csv").is_file()
    ingest = json.loads((project / "metrics/ingest.json").read_text())
    assert ingest["images"] == 95  # one deliberate duplicate


def test_git_keeps_the_lock_and_the_metrics_and_nothing_heavy(project: Path) -> None:
    tracked = call(project, "git", "ls-files", "data", "models", "plots", "metrics", "dvc.lock").stdout.split()
    assert "dvc.lock" in tracked
    assert "metrics/binary-case/test.json" in tracked
    assert [name for name in tracked if name.startswith(("data", "models", "plots"))] == [
        "data/.gitignore", "data/outside.yaml", "models/.gitignore", "plots/.gitignore",
    ]  # fmt: skip


def test_a_second_repro_runs_nothing(project: Path) -> None:
    output = call(project, "dvc", "repro").stdout
    assert "Running stage" not in output
    assert "up to date" in output
    assert call(project, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_metrics_fit_the_screen_and_the_results_say_what_they_are(project: Path) -> None:
    table = call(project, "dvc", "metrics", "show").stdout
    assert max(map(len, table.splitlines())) <= 100
    results = call(project, "biopsy", "results").stdout
    assert "Synthetic" in results
    assert "Research use only" in results


def test_plots_make_one_page_without_complaint(project: Path, tmp_path: Path) -> None:
    result = call(project, "dvc", "plots", "show", "-o", str(tmp_path))
    assert "failed" not in result.stdout + result.stderr
    page = (tmp_path / "index.html").read_text()
    for title in ("binary, protocol case: ROC", "multiclass, protocol image: share of each actual class"):
        assert title in page


def test_an_edit_in_the_library_makes_stale_the_stages_that_list_its_room_and_no_others(project: Path) -> None:
    module = project / "biopsy/tables/split/search.py"
    before = module.read_text()
    module.write_text(before + "# changed\n")
    try:
        stale = json.loads(call(project, "dvc", "status", "--json").stdout)
    finally:
        module.write_text(before)
    assert {name.split("@")[0] for name in stale} == {
        "ingest",
        "impute",
        "split",
        "stain",
        "train",
        "evaluate",
        "export",
    }


def test_dvc_dag_names_every_stage(project: Path) -> None:
    dag = call(project, "dvc", "dag", "--mermaid").stdout
    for stage in (
        "fetch",
        "ingest",
        "impute",
        "split",
        "resize",
        "stain@case",
        "train@binary-case",
        "evaluate@multiclass-image",
        "export@binary-image",
        "report",
    ):
        assert stage in dag


def test_a_second_repro_in_the_same_workspace_says_so(project: Path) -> None:
    """The first one is held inside `resize`, whose place a slow stand-in takes by being stopped."""
    first = subprocess.Popen(
        ["dvc", "repro", "--force", "--single-item", "resize"],
        cwd=project, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lock = project / ".dvc/tmp/rwlock"
    deadline = time.monotonic() + 60
    while not (lock.is_file() and "data/resized" in lock.read_text()):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.01)
    second = call(project, "dvc", "repro", "--force", "--single-item", "resize", check=False)
    assert first.wait(timeout=120) == 0
    assert second.returncode != 0
    assert "busy" in second.stderr or "lock" in second.stderr


def test_exp_run_takes_presets_by_name(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, narrow=True)
    small = [f"{key}={value}" for key, value in SMALL.items()]
    options = [o for s in [*small, "augment=none", "tasks=[binary]", "protocols=[case]"] for o in ("-S", s)]
    call(project, "dvc", "exp", "run", "-n", "still", *options, **UNDRAWN)
    params = OmegaConf.load(project / "params.yaml")
    assert params.augment.every == {}
    page = call(project, "biopsy", "experiments", "--about", "The sample.").stdout
    assert "The sample." in page
    figures = json.loads((project / "metrics/binary-case/test.json").read_text())
    assert "|`baseline`|1|" in page
    assert f"|{figures['macro_f1']:.2f}|-|" in page
