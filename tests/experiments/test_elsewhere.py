"""Experiments on other machines: job files, and clones that run tasks and push what came out."""

import shutil
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from biopsy.cli import command
from biopsy.core.engine import LOCAL, open_engine
from biopsy.core.errors import BiopsyError, DataError, MachineError, ParamsError
from biopsy.experiments.clones import Task, run_in_clone
from biopsy.experiments.launch import Machine, render_job
from biopsy.experiments.origin import find_origin
from biopsy.experiments.queue import plan, run_queue
from biopsy.experiments.shell import output
from scratch import call, commit, environment, stand_in

TRAIN = """
import json, os, pathlib, sys, yaml
params = yaml.safe_load(open("params.yaml"))
if params["seed"] == 13:
    sys.exit("error: seed 13 is unlucky.")
with open(os.environ.get("RUNS", os.devnull), "a") as stream:
    stream.write("x")
pathlib.Path("model").write_text(f"a model of seed {params['seed']}")
pathlib.Path("metrics.json").write_text(json.dumps({"seed": params["seed"]}))
"""
STAGES = """
stages:
  train:
    cmd: python train.py
    params: [seed]
    deps: [train.py]
    outs: [model]
    metrics: [metrics.json: {cache: false}]
"""
MAKEFILE = """
.venv/run:
\tmkdir -p .venv/bin
\tcp said .venv/bin/dvc
\tcp said .venv/bin/pip
\tchmod +x .venv/bin/dvc .venv/bin/pip
"""
# Stands in for `dvc` and `pip`: writes down the words that it was given.
SAID = """#!/bin/sh
for word in "${0##*/}" "$@"; do printf '%s\\n' "$word"; done >> "$SAID"
"""
AWKWARD = "data.local.csv='/a b/$HOME `id` $(id); %d & \"c\" # d.csv'"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose git remote is a bare repository, and whose DVC remote a folder, both on this machine."""
    tmp_path = tmp_path_factory.mktemp("elsewhere")
    root = tmp_path / "project"
    root.mkdir()
    stand_in(root, {"train.py": TRAIN, "dvc.yaml": STAGES, "Makefile": MAKEFILE, "said": SAID})
    (tmp_path / "store").mkdir()
    with (root / ".dvc/config").open("a") as stream:
        stream.write("[core]\n    remote = team\n['remote \"team\"']\n    url = ../../store\n")
    commit(root, "remote")
    call(root, "git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "server.git"))
    call(root, "git", "remote", "add", "origin", str(tmp_path / "server.git"))
    call(root, "git", "push", "-q", "origin", "HEAD:main")
    call(root, "git", "fetch", "-q")
    return root


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(Path()).items():
        if name.startswith(("GIT_", "DVC_")) or name == "PATH":
            monkeypatch.setenv(name, value)


def test_a_queue_runs_each_experiment_in_a_clone_pushes_it_and_runs_none_twice(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    tasks = plan(["seed=7,13"], project)
    with pytest.raises(DataError, match="1 of 2 experiments failed"):
        run_queue(tasks, LOCAL, project)
    said = capsys.readouterr().out
    assert f"{tasks[0].name}: done  seed=7" in said
    assert f"{tasks[1].name}: failed: `dvc exp run` failed: seed 13 is unlucky.  seed=13" in said
    refs = call(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    assert [ref.rpartition("/")[2] for ref in refs] == [tasks[0].name]  # what `dvc exp show` lists
    assert call(project, "git", "show", f"{refs[0]}:metrics.json").stdout == '{"seed": 7}'
    assert "a model of seed 7" in {path.read_text() for path in (project.parent / "store").rglob("*") if path.is_file()}
    assert call(project, "git", "status", "--short").stdout == ""  # the workspace is as it was

    run_queue(plan(["seed=7"], project), LOCAL, project)
    assert "done before" in capsys.readouterr().out
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.slow
def test_why_dvc_fails_in_a_clone_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*command: str, **options: Any) -> str:
        if command[:2] == ("dvc", "pull"):  # as of a remote that cannot be reached
            command = ("dvc", "pull", *command[2:], "--remote", "nowhere")
        return output(*command, **options)

    monkeypatch.setattr("biopsy.experiments.clones.output", refuse)
    said = run_in_clone(Task("x", (), find_origin(project)))
    assert said.startswith("`dvc pull --allow-missing` failed: ")
    assert "nowhere" in said


def test_a_queue_runs_on_ray(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    tasks = plan(["seed=7,8"], project)
    with open_engine("ray", "local") as engine:
        run_queue(tasks, engine, project)
    assert capsys.readouterr().out.count(": done") == 2


def test_a_cluster_that_does_not_answer_is_a_sentence_with_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("Failed to connect")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    words = (
        r"at there:1 \(Failed to connect\). `ray start --head` starts one. If one runs .* set RAY_AUTH_MODE to token"
    )
    with pytest.raises(MachineError, match=words), open_engine("ray", "there:1"):
        pass


def test_without_ray_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MachineError, match=r"no package ray.*\.\[ray\]"), open_engine("ray"):
        pass


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=0,1", "train.epoch=3"], "epoch"),
        (["seed=1,2", "train.batch=0"], "train.batch"),
        (["seed=1,2", "++train.optimizer=adamm"], "Did you mean 'adam'"),
        (["seed=choice("], "seed=choice"),
        (["seed=glob(*)"], "not a sweep"),
    ],
    ids=str,
)
def test_a_queue_rejects_what_no_run_would_take_before_any_runs(
    project: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(ParamsError, match=words.replace("(", r"\(")):
        plan(overrides, project)


def test_a_file_that_clones_would_lack_is_named(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(project, tmp_path / "copy")
    (copy / "mine.weights.h5").touch()
    for folder, root in ((tmp_path, copy), (copy, Path())):
        monkeypatch.chdir(folder)
        with pytest.raises(ParamsError, match=r"mine\.weights\.h5.*whole path"):
            plan(["model.weights=mine.weights.h5"], root)


AWKWARD_RUN = ["dvc", "exp", "run", "-n", "mine", "-S", AWKWARD]


@pytest.fixture(scope="module")
def jobs(project: Path) -> dict[str, Any]:
    """What each kind of job file holds, as if the remotes were at addresses that other machines see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("biopsy.experiments.launch._check_storage", lambda *_: None)
        texts = {k: render_job(Machine(k, "A100:2", 8), AWKWARD_RUN, root=project) for k in ("sky", "k8s", "slurm")}
    return {kind: text if kind == "slurm" else yaml.safe_load(text) for kind, text in texts.items()}


def script_of(jobs: dict[str, Any], kind: str) -> str:
    if kind == "k8s":
        script: str = jobs[kind]["spec"]["template"]["spec"]["containers"][0]["args"][0]
        assert "$(" not in script.replace("$$", "")  # Kubernetes would read it as a variable of its own
        return script.replace("$$", "$")
    return str(jobs[kind]["run"] if kind == "sky" else jobs[kind])


@pytest.mark.parametrize("kind", ["sky", "k8s", "slurm"])
def test_every_job_clones_installs_pulls_runs_and_pushes_word_for_word(
    kind: str, jobs: dict[str, Any], project: Path, tmp_path: Path
) -> None:
    """The words of the command arrive as they were given, whatever a shell or YAML could read into them."""
    job, said = tmp_path / "job", tmp_path / "said"
    job.write_text(script_of(jobs, kind))
    call(tmp_path, "/bin/bash", str(job), SAID=str(said), TMPDIR=str(tmp_path))
    words = said.read_text().splitlines()
    starts = [i for i, word in enumerate(words) if word in ("dvc", "pip")] + [len(words)]
    commands = [words[start:end] for start, end in pairwise(starts)]
    assert commands[0][:2] == ["pip", "install"]
    assert commands[0][-1] == "tensorflow[and-cuda]"
    assert commands[1:] == [
        ["dvc", "remote", "modify", "--local", "team", "url", str(project.parent / "store")],
        ["dvc", "pull", "--allow-missing"],
        ["dvc", "exp", "run", "--pull", "--allow-missing", "--name", "mine", "-S", AWKWARD],
        ["dvc", "push"],
        ["dvc", "exp", "push", "--force", "origin", "mine"],
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "said"]  # it leaves nothing behind


def test_job_files_have_the_structure_that_their_schedulers_read(jobs: dict[str, Any]) -> None:
    sky, k8s, slurm = jobs["sky"], jobs["k8s"], jobs["slurm"]
    assert set(sky) == {"name", "num_nodes", "resources", "run"}
    assert sky["resources"]["accelerators"] == "A100:2"
    assert (k8s["apiVersion"], k8s["kind"]) == ("batch/v1", "Job")
    assert set(k8s["spec"]) == {"backoffLimit", "activeDeadlineSeconds", "template"}
    pod = k8s["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a Job takes this or OnFailure
    assert (pod["containers"][0]["command"], len(pod["containers"][0]["args"])) == (["bash", "-c"], 1)
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": 2}}
    directives = [line for line in slurm.splitlines() if line.startswith("#SBATCH ")]
    assert slurm.startswith("#!/bin/bash\n")
    assert {"#SBATCH --gpus=A100:2", "#SBATCH --time=8:00:00"} <= set(directives)
    assert slurm.index(directives[-1]) < slurm.index("set -eu")  # sbatch reads them up to the first command
    for name in (sky["name"], k8s["metadata"]["name"]):
        assert name == name.lower()
        assert len(name) <= 63


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--render", "sky"], "folder of this machine"),
        (["--render", "slurm", "--gpu", "A100; rm -rf /"], "--gpu takes"),
        (["--render", "sky", "--gpu", "2"], "--gpu takes a model"),
        (["--render", "slurm", "--hours", "0"], "--hours"),
        (["--render", "slurm", "--", "rm", "-rf", "/"], "dvc exp run"),
        (["--render", "slurm", "--", "dvc", "exp", "run", "--queue"], "--queue"),
        (["--render", "slurm", "--", "dvc", "exp", "run", "-S", "seed=x"], "seed"),
        (["--render", "slurm", "--", "dvc", "exp", "run", "-S", "seed=1\n#SBATCH -x"], "line break"),
        (["--render", "slurm", "--", "dvc", "exp", "run", "-n", "$(id)"], "named with"),
        (["--render", "slurm", "--revision", "no-such"], "no commit, branch or tag 'no-such'"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_what_a_job_would_fail_with_is_said_before_it_is_written(project: Path, options: list[str], words: str) -> None:
    with pytest.raises(BiopsyError) as error:
        command(["launch", "--root", str(project), *options])
    assert words in str(error.value)


def test_a_job_file_holds_no_token_of_an_address(project: Path, tmp_path: Path) -> None:
    other = shutil.copytree(project, tmp_path / "other")
    call(other, "git", "remote", "set-url", "origin", "https://me:s3cret@example.org/me/biopsy.git")
    with (other / ".dvc/config.local").open("w") as stream:
        stream.write("['remote \"team\"']\n    url = ssh://me:s3cret@example.org/store\n")
    job = render_job(Machine("k8s"), [], root=other)
    assert "s3cret" not in job
    assert "https://example.org/me/biopsy.git" in job
    assert "ssh://me@example.org/store" in job
    assert "dvc[ssh]" in job


def test_a_commit_that_was_not_pushed_is_an_error(project: Path, tmp_path: Path) -> None:
    ahead = shutil.copytree(project, tmp_path / "ahead")
    call(ahead, "git", "commit", "-q", "--allow-empty", "-m", "new")
    with pytest.raises(DataError, match=r"origin lacks commit .*git push"):
        render_job(Machine("slurm"), [], root=ahead)
