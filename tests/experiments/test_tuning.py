"""`biopsy tune` under a real DVC, with a stand-in for the training that ends at once with figures of its parameters."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from biopsy.cli import command
from biopsy.core.errors import BiopsyError, DataError, ParamsError
from biopsy.core.params import parse_params
from biopsy.experiments import tuning
from biopsy.experiments.dvc_process import running_dvc
from biopsy.experiments.tuning import Trials, check_search, to_copy
from conftest import ROOT, assert_kind
from scratch import commit, stand_in

TRAIN = """
import json, os, pathlib, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
train, weights = params["train"], params["model"]["weights"]
if weights != "none" and pathlib.Path(weights).read_text() != "mine":
    sys.exit("error: other weights")
if train["batch"] == 13:
    sys.exit("error: train.batch 13 is unlucky.")
with open(os.environ["RUNS"], "a") as stream:
    stream.write("x")
bad = 10 if os.path.getsize(os.environ["RUNS"]) > 3 else 0
loss = (train["learning_rate"] if train["optimizer"] == "adopt" else 9) + bad
for epoch in range(3):
    with open(os.environ["BIOPSY_PROGRESS"], "a") as stream:
        print(json.dumps({"val_loss": loss + 2 - epoch, "val_accuracy": 0.5}), file=stream)
    time.sleep(60 * bool(bad) + float(os.environ.get("SLOW", 0)))
path = pathlib.Path("metrics/binary-case/train.json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps({"val_loss": loss, "val_accuracy": 0.5}))
"""
STAGES = """
stages:
  train:
    matrix: {task: [binary], protocol: [case]}
    cmd: python train.py
    params: [train]
    deps: [train.py]
    outs: ["metrics/${item.task}-${item.protocol}/train.json": {cache: false}]
"""
SPACE = """
trials: 3
startup: 2
grace_epochs: 0
space:
  train.learning_rate: {low: 0.001, high: 1.0, log: true}
"""
WEIGHTS = "data/weights/a.weights.h5"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {"train.py": TRAIN, "dvc.yaml": STAGES, "conf/tune/default.yaml": SPACE, ".gitignore": "/data/"}
    root = stand_in(tmp_path, files)
    (root / WEIGHTS).parent.mkdir(parents=True)
    (root / WEIGHTS).write_text("mine")
    return root


def environment(root: Path, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_NO_ANALYTICS": "1",
        "RUNS": str(root / ".git/runs"),
    }
    return {**os.environ, **settings, **more}


def call(root: Path, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        arguments, cwd=root, env=environment(root, **more), capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def tune(root: Path, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    return call(root, sys.executable, "-m", "biopsy.cli", "tune", *arguments, check=check, **more)


def experiments(root: Path) -> dict[str, float]:
    """The experiments that `dvc exp show` lists, with their learning rates."""
    shown = json.loads(call(root, "dvc", "exp", "show", "--json").stdout)
    return {
        experiment["name"]: experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]["train"]["learning_rate"]
        for baseline in shown
        for experiment in baseline.get("experiments") or []
    }


def test_a_search_is_killed_goes_on_stops_bad_trials_and_promotes_the_best(project: Path) -> None:
    """The stand-in's first run never ends; from the fourth on its figures are bad and it never ends either.

    It starts from a weights file that git ignores.
    """
    experiment = ("adopt", "-S", f"model.weights={WEIGHTS}")
    searching = subprocess.Popen(
        [sys.executable, "-m", "biopsy.cli", "tune", *experiment], cwd=project, env=environment(project, SLOW="60"),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline, runs = time.monotonic() + 120, project / ".git/runs"
    while not (runs.is_file() and runs.stat().st_size):
        assert time.monotonic() < deadline
        assert searching.poll() is None
        time.sleep(0.05)
    for process in trainings(project):
        os.killpg(os.getpgid(process), signal.SIGKILL)
    time.sleep(1)  # long enough to be noticed before the search itself is interrupted
    searching.send_signal(signal.SIGINT)
    searching.wait(timeout=60)
    assert experiments(project) == {}
    runs.write_text("x")  # on a slow machine the next trial had begun as well

    done = tune(project, *experiment, "--trials", "4")
    found = experiments(project)
    assert done.stdout.count("stopped after epoch 1 ") == 2
    assert len(found) == 2
    assert trainings(project) == []
    for name, rate in found.items():
        assert name.endswith(f"-val_loss-{rate:.4f}")  # adopt was on, and the name tells the figure
    best = min(found, key=lambda name: found[name])
    assert f"dvc exp apply {best}" in done.stdout
    assert call(project, "git", "status", "--short").stdout == ""  # the workspace is as it was

    again = tune(project, *experiment, "--trials", "4")
    assert experiments(project) == found
    assert f"dvc exp apply {best}" in again.stdout
    assert_kind(tune(project, "adopt", "-S", "train.batch=4", check=False), "other settings", "Delete it")

    call(project, "dvc", "exp", "apply", best)
    assert f"learning_rate: {found[best]!r}" in (project / "params.yaml").read_text()


def test_ctrl_c_while_a_trial_starts_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def start(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        begun.append(popen(["sleep", "60"], **options))
        os.kill(os.getpid(), signal.SIGINT)  # before anybody has been told which process it is
        time.sleep(0.05)
        return begun[0]

    popen = subprocess.Popen
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt), running_dvc(["exp", "run"], tmp_path / "epochs", tmp_path / "log"):
        pytest.fail("the trial went on")
    assert begun[0].poll() == -signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def trainings(project: Path) -> list[int]:
    """The processes of the stand-in, which run in temporary folders of the project."""
    found = psutil.process_iter(["cmdline", "cwd"])
    ours = [p for p in found if (p.info["cmdline"] or [])[-1:] == ["train.py"]]
    return [p.pid for p in ours if (p.info["cwd"] or "").startswith(str(project))]


def test_trials_that_all_fail_end_the_search_with_the_reason(project: Path) -> None:
    done = tune(project, "adopt", "-S", "train.batch=13", check=False)
    assert_kind(done, "3 trials in a row failed", "train.batch 13 is unlucky")


def test_trials_that_all_fail_after_one_that_did_not_end_the_search_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    begun: list[int] = []

    def run(trial: Any, *_: object) -> float:
        begun.append(trial.number)
        if len(begun) > 1:
            raise DataError("the disk is gone.")
        return 0.5

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "run_trial", run)
    with pytest.raises(DataError, match=r"^10 trials in a row failed, the last one because: the disk is gone\."):
        command(["tune", "adopt"])
    assert len(begun) == 11


@pytest.mark.parametrize(
    ("experiment", "options", "space", "words"),
    [
        ("adpt", [], {}, ["adpt", "Did you mean 'adopt'?"]),
        ("adopt", ["--task", "bin"], {}, ["--task", "binary, multiclass", "'bin'"]),
        ("adopt", ["--protocol", "slide"], {}, ["--protocol", "image, case", "'slide'"]),
        ("adopt", ["-S", "train.bacth=3"], {}, ["-S", "'train.bacth'"]),
        ("adopt", ["-S", "train.batch=0"], {}, ["train.batch", "Got 0"]),
        ("adopt", ["-S", "nonsense=3"], {}, ["-S", "nonsense"]),
        ("adopt", [], {"train.learning_rat": "{low: 0.1, high: 1.0}"}, ["learning_rat'", "'learning_rate'"]),
        ("adopt", [], {"train.learning_rate": "{low: 0.1, high: 100.0}"}, ["train.learning_rate", "100"]),
        ("adopt", [], {"train.learning_rate": "{low: 2.0, high: 1.0}"}, ["low < high", "low 2"]),
        ("adopt", [], {"train.learning_rate": "{low: 0.0, high: 1.0, log: true}"}, ["low > 0 with log"]),
        ("adopt", [], {"train.loss.gamma": "{low: 0.0, high: 3.0}"}, ["train.loss.gamma", "val_accuracy"]),
        ("adopt", [], {"seed": "{low: 0, high: 9}"}, ["'seed'", "train., model., augment., resize., stain."]),
        ("adopt", [], {"split.val": "{low: 0.1, high: 0.15}"}, ["'split.val'", "train., model."]),
        ("adopt", [], {"ingest.min_size": "{low: 8, high: 64}"}, ["'ingest.min_size'", "train., model."]),
        ("adopt", ["--trials", "0"], {}, ["--trials must be at least 1", "Got 0"]),
        ("adopt", ["--trials", "-3"], {}, ["--trials must be at least 1", "Got -3"]),
        ("adam", [], {"x": "{low: 0.0, high: 3.0}"}, ["there is no experiment 'adam'"]),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    experiment: str,
    options: list[str],
    space: dict[str, str],
    words: list[str],
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    if space:
        lines = "".join(f"  {key}: {value}\n" for key, value in space.items())
        (tmp_path / "conf/tune/default.yaml").write_text(f"space:\n{lines}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BiopsyError) as error:
        command(["tune", experiment, *options])
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / ".dvc").exists()


def test_the_shipped_space_is_one_that_can_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params: Any = check_search("adopt", "multiclass", "image", ())
    assert params.train.optimizer == "adopt"
    assert params.tune.space


def test_the_figures_of_a_trial_are_found_where_the_project_lies_below_gits_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sub/metrics/binary-case/train.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"val_loss": 0.25}')
    call(tmp_path, "git", "init", "-q")
    commit(tmp_path, "a trial")
    call(tmp_path, "git", "update-ref", "refs/exps/ab/cdef/search-007", "HEAD")
    monkeypatch.chdir(tmp_path / "sub")
    job = Trials("search", "binary-case", ())
    assert job.figures("search-007") == {"val_loss": 0.25}
    assert job.figures("search-008") is None


def test_files_that_git_does_not_know_are_copied_for_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("known/a.h5", "known/b.h5", "data/weights/deep/c.h5", "d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("b.h5\n/data/weights/\n*.png\n")
    (tmp_path / "data/kept").touch()
    call(tmp_path, "git", "init", "-q")
    commit(tmp_path, "begin")
    monkeypatch.chdir(tmp_path)

    def copied(weights: str, **more: Any) -> tuple[str, ...]:
        return to_copy(parse_params({"model": {"weights": weights}, **more}))

    for weights in ("none", "imagenet", "known/a.h5", "known/missing.h5", str(tmp_path / "known/b.h5")):
        assert copied(weights) == ()
    assert copied("known/b.h5") == ("known/b.h5",)
    assert copied("data/weights/deep/c.h5", stain={"reference": "d.png"}) == ("data/weights", "d.png")
    space = {"model.weights": {"choices": ["none", "known/b.h5", "data/weights/deep/c.h5"]}}
    assert copied("known/b.h5", tune={"space": space}) == ("known/b.h5", "data/weights")
    monkeypatch.chdir(tmp_path / "data")
    with pytest.raises(ParamsError, match=r"model\.weights is '\.\./known/b\.h5'.* Write the whole path\."):
        copied("../known/b.h5")


def test_tables_of_locks_that_a_killed_dvc_left_torn_do_not_stop_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, torn = Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock")
    torn.parent.mkdir(parents=True)
    whole.write_text("{}")
    torn.write_text("")
    with running_dvc(["--version"], tmp_path / "progress", tmp_path / "log") as process:
        process.wait(timeout=60)
    assert whole.read_text() == "{}"
    assert not torn.exists()
