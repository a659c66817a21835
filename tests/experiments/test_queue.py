"""A list of experiments runs unattended under a real DVC; a stand-in for the training ends at once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from biopsy.cli import command
from biopsy.experiments.runs import _baselines
from scratch import call, commit, environment, stand_in

TRAIN = """
import json, pathlib, yaml
from biopsy.core.errors import ParamsError, run

def main():
    params = yaml.safe_load(open("params.yaml"))
    if params["train"]["optimizer"] == "lion":
        raise ParamsError("no lions here. Use adopt.")
    path = pathlib.Path("models/binary-case")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(params["train"]["optimizer"])

run(main)
"""
TEST = """
import json, pathlib
path = pathlib.Path("metrics/binary-case/test.json")
path.parent.mkdir(parents=True, exist_ok=True)
adopt = pathlib.Path("models/binary-case").read_text() == "adopt"
path.write_text(json.dumps({"macro_f1": 0.25 if adopt else 0.5}))
"""
STAGES = """
stages:
  train:
    matrix: {task: [binary], protocol: [case]}
    cmd: python train.py
    params: [train, seed, tasks, protocols, experiment]
    deps: [train.py]
    outs: ["models/${item.task}-${item.protocol}"]
  evaluate:
    matrix: {task: [binary], protocol: [case]}
    cmd: python test.py
    deps: ["models/${item.task}-${item.protocol}"]
    metrics: ["metrics/${item.task}-${item.protocol}/test.json": {cache: false}]
"""


def test_a_failed_experiment_of_a_queue_stops_no_other_and_its_reason_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = stand_in(tmp_path / "project", {"train.py": TRAIN, "test.py": TEST, "dvc.yaml": STAGES})
    ours = {"PYTHONPATH": os.pathsep.join(sys.path)}
    call(project, "dvc", "exp", "run", "--queue", "-S", "+experiment=lion,adopt", **ours)
    call(project, "dvc", "exp", "run", "--queue", **ours)
    started = subprocess.Popen(
        ["dvc", "queue", "start"], cwd=project, env=environment(project, **ours), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while any(word in (said := call(project, "dvc", "queue", "status").stdout) for word in ("Queued", "Running")):
            assert time.monotonic() < deadline, said
            time.sleep(1)
    finally:
        call(project, "dvc", "queue", "stop", "--kill", check=False)
        started.wait(timeout=60)
    assert said.count("Failed") == 1
    assert said.count("Success") == 2

    baseline = call(project, "git", "rev-parse", "HEAD").stdout.strip()
    for name in ("later", "latest"):
        (project / name).touch()
        commit(project, name)
    picture, heads = tmp_path / "experiments.png", str(project / "conf/experiment")
    command(["experiments", "--root", str(project), "--plot", str(picture), "--heads", heads, "--about", "A stand-in."])
    page, said = capsys.readouterr()
    assert said.startswith("reading the experiments that DVC keeps")  # `dvc exp show` is silent for a minute
    assert "A stand-in." in page
    assert "- lion, seed 0: no lions here. Use adopt." in page
    assert "|`adopt`|1|-|-|-|-|0.25|-0.25|" in page
    assert picture.is_file()
    assert _baselines(project) == [baseline]  # of all commits DVC would read parameters and lock, for minutes
    assert "# Measured: macro-F1 binary-case 0.25 (1 seed;" in (project / "conf/experiment/adopt.yaml").read_text()
