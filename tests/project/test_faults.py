"""Killed runs, full disks, dying servers, hand-made edits: nothing is lost, nothing wrong is taken for right."""

import getpass
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scratch import call, clone, environment, set_params
from servers import ssh_server

CACHE = ".dvc/cache/files/md5"


@pytest.fixture(scope="module")
def project(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone for tests that leave it as they found it."""
    return clone(origin, tmp_path_factory.mktemp("faults"), narrow=True)


def start(root: Path, *command: str, **more: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own; `more` goes into its environment."""
    return subprocess.Popen(
        command, cwd=root, env=environment(root, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def objects(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def damaged(folder: Path) -> list[str]:
    """Objects of a cache or remote whose content is not what their name says; a broken write's dot file is none."""
    return [
        path.name
        for path in objects(folder)
        if not path.name.startswith(".")
        and hashlib.md5(path.read_bytes()).hexdigest() != (path.parent.name + path.name).removesuffix(".dir")
    ]


def assert_as_committed(root: Path) -> None:
    assert call(root, "git", "status", "--porcelain").stdout == ""
    assert call(root, "dvc", "status").stdout == "Data and pipelines are up to date.\n"


# What each stage writes before it puts anything in its place.
UNFINISHED = {
    "fetch": "data/.raw.new.*.tmp",
    "ingest": "plots/.ingest.new.*.tmp",
    "impute": "data/interim/.*labels.file.*.tmp.csv",
    "split": "plots/.split.new.*.tmp",
    "stain@case": "data/stained/.case.new.*.tmp",
    "evaluate@binary-case": "plots/binary-case/.test.new.*.tmp",
}
# Python reads this file when it starts. What is whole waits in a stage before it is put in its place: under load nobody
# would see it otherwise, where a stage writes for milliseconds.
WAITING = """
import pathlib, sys, time

def late(move):
    def moved(path, target):
        if sys.argv[0].startswith("stages/"):
            time.sleep(120)
        return move(path, target)
    return moved

pathlib.Path.rename, pathlib.Path.replace = late(pathlib.Path.rename), late(pathlib.Path.replace)
"""


def test_killed_with_its_stage_wherever_it_is_dvc_repro_makes_all_as_it_was(project: Path, tmp_path: Path) -> None:
    """`train` and `resize`, which resume, have tests of their own."""
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    for stage, unfinished in UNFINISHED.items():
        assert list(project.glob(unfinished)) == []
        process = start(
            project, "dvc", "repro", "--force", "--single-item", stage, PYTHONPATH=f"{tmp_path}{os.pathsep}{project}"
        )
        wait_until(lambda pattern=unfinished: any(project.glob(pattern)), process)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, stage
        assert list(project.glob(unfinished)) != [], "killed before anything was in its place"
    left = project / "metrics/.ingest.file.1-abc.tmp.json"  # a kill at another moment leaves such files as well
    left.touch()
    assert "Traceback" not in call(project, "dvc", "repro").stderr
    assert_as_committed(project)
    left.unlink()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_whose_dvc_was_killed_does_not_write_beside_the_next_one(
    project: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """Also under a shell that does not become the last command of `-c`, such as dash (cron has it)."""
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    seen = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{project}", "SHELL": "/bin/sh"}
    process = start(project, "dvc", "repro", "--force", "--single-item", "fetch", **seen)
    wait_until(lambda: any(project.glob(UNFINISHED["fetch"])), process)
    os.kill(process.pid, how)  # dvc alone
    process.wait()
    assert "Traceback" not in call(project, "dvc", "repro", "--force", "--single-item", "fetch").stderr
    process.communicate()
    assert list(project.glob(UNFINISHED["fetch"])) == []
    assert_as_committed(project)


def test_a_full_disk_during_commit_loses_nothing(origin: Path, tmp_path: Path, mount: Callable[..., None]) -> None:
    project = clone(origin, tmp_path, pull=False, narrow=True)
    call(project, "dvc", "pull", "-q", "data/raw", "data/interim/labels.csv")
    full = tmp_path / "small disk"
    full.mkdir()
    mount(full, "-t", "tmpfs", "-o", "size=300k", "tmpfs")
    call(project, "dvc", "config", "--local", "cache.dir", str(full))
    failed = call(project, "dvc", "repro", "--single-item", "--force", "resize", check=False)
    assert "No space left on device" in failed.stderr  # DVC 3.67 exits with 0 all the same; its status does not hide it
    assert "Traceback" not in failed.stderr
    stale = json.loads(call(project, "dvc", "status", "--json", "resize").stdout)
    assert stale == {"resize": [{"changed outs": {"data/resized": "not in cache"}}]}
    assert len(list((project / "data/resized").rglob("*.png"))) == 95
    subprocess.run(["mount", "-o", "remount,size=50m", str(full)], check=True)
    again = call(project, "dvc", "repro", "--single-item", "resize")
    assert "0 made, 95 kept" in again.stdout
    assert damaged(full / "files/md5") == []
    assert call(project, "git", "status", "--porcelain").stdout == ""


def test_a_read_only_cache_ends_in_a_sentence(project: Path, mount: Callable[..., None]) -> None:
    cache = project / ".dvc/cache"
    mount(cache, "--bind", str(cache))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(cache)], check=True)
    set_params(project, split__train=0.6, split__val=0.2, split__test=0.2)
    try:
        failed = call(project, "dvc", "repro", "split", check=False)
    finally:
        subprocess.run(["mount", "-o", "remount,rw,bind", str(cache)], check=True)
        call(project, "git", "checkout", "-q", ".")
        call(project, "dvc", "checkout", "-q", "--force")
    assert failed.returncode != 0
    assert "Read-only file system" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert_as_committed(project)


def test_a_server_that_dies_in_mid_push_and_in_mid_pull_costs_only_the_time(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, narrow=True)
    served, cache = tmp_path / "served", tmp_path / "two/project" / CACHE
    second = clone(origin, tmp_path / "two", pull=False, narrow=True)
    for number, (root, command, watched) in enumerate([(project, "push", served), (second, "pull", cache)]):
        for attempt in ("dies", "lives"):
            with ssh_server(tmp_path / f"ssh-{number}-{attempt}") as (port, key):
                address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{served}"
                call(root, "dvc", "remote", "add", "--local", "-f", "-d", "team", address)
                call(root, "dvc", "remote", "modify", "--local", "team", "keyfile", str(key))
                process = start(root, "dvc", command)
                if attempt == "dies":
                    wait_until(lambda folder=watched: len(objects(folder)) > 20, process)
                    server = next(child for child in psutil.Process().children() if child.name() == "sshd")
                    for child in [*server.children(recursive=True), server]:
                        child.kill()
                output = process.communicate(timeout=300)[0]
            if attempt == "dies":
                assert process.returncode != 0, output
                assert "Traceback" not in output
                assert not list((tmp_path / "two/project/models").glob("*/*")), "half a pull is not put in place"
            else:
                assert process.returncode == 0, output
                assert damaged(watched) == []
    assert call(second, "dvc", "status").stdout == "Data and pipelines are up to date.\n"


def test_two_people_may_push_at_once(origin: Path, tmp_path: Path) -> None:
    projects = [clone(origin, tmp_path / name, narrow=True) for name in ("one", "two")]
    shared = tmp_path / "shared"
    for number, root in enumerate(projects):
        call(root, "dvc", "remote", "modify", "--local", "storage", "url", str(shared))
        set_params(root, split__train=0.6 + 0.01 * number, split__val=0.2, split__test=0.2 - 0.01 * number)
        call(root, "dvc", "repro", "-q", "split")
    for process in [start(root, "dvc", "push") for root in projects]:
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output
    assert damaged(shared) == []
    for root in projects:
        assert "in sync" in call(root, "dvc", "status", "--cloud").stdout


def test_a_moved_repository_and_a_detached_head_need_nothing_to_run(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, narrow=True)
    moved = project.rename(tmp_path / "moved")
    call(moved, "git", "checkout", "-q", "--detach")
    assert "Running stage" not in call(moved, "dvc", "repro").stdout
    set_params(moved, split__train=0.6, split__val=0.2, split__test=0.2)
    call(moved, "dvc", "repro", "-q", "split")
    call(moved, "git", "switch", "-q", "-c", "kept")
    changed = call(moved, "git", "status", "--porcelain").stdout.split()
    assert "metrics/split.json" in changed


def test_a_clone_without_history_works_and_says_what_it_lacks(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, options=("--depth", "1"))
    assert_as_committed(project)
    missing = call(project, "dvc", "metrics", "diff", "HEAD~1", check=False)
    assert missing.returncode != 0
    assert "unknown Git revision 'HEAD~1'" in missing.stderr


def test_a_dirty_workspace_is_not_overwritten_unasked(project: Path) -> None:
    """An edited output that nothing else holds stays, and `dvc status` shows it."""
    edited = project / "data/splits/case.csv"
    content = edited.read_text()
    edited.unlink()
    edited.write_text(content + "mine\n")
    refused = call(project, "dvc", "checkout", "data/splits", check=False)
    assert refused.returncode != 0
    assert "-f" in refused.stderr
    assert edited.read_text().endswith("mine\n")
    stale = json.loads(call(project, "dvc", "status", "--json").stdout)
    assert {"split", "train@binary-case", "evaluate@binary-case", "export@binary-case"} == {
        n for n in stale if n in ("split",) or "binary-case" in n
    }
    call(project, "dvc", "checkout", "-q", "-f", "data/splits")
    assert_as_committed(project)


def test_an_image_edited_by_hand_is_noticed_and_made_again(origin: Path, tmp_path: Path) -> None:
    """Also through a hard link, which root may write into though it is read-only: the cache is then damaged too."""
    project = clone(origin, tmp_path, narrow=True)
    image = sorted((project / "data/resized").rglob("*.png"))[0]
    right = image.read_bytes()
    assert image.stat().st_mode & 0o222 == 0, "DVC protects what it links"
    assert image.stat().st_nlink > 1
    try:
        with image.open("ab") as stream:
            stream.write(b"x")
    except PermissionError:
        image.unlink()
        image.write_bytes(right + b"x")
    stale = json.loads(call(project, "dvc", "status", "--json").stdout)
    assert stale["resize"] == [{"changed outs": {"data/resized": "modified"}}]
    assert {name.split("@")[0] for name in stale} == {"resize", "stain", "train", "evaluate", "export"}
    printed = call(project, "dvc", "repro").stdout
    assert "Running stage 'resize'" in printed
    assert "Running stage 'train" not in printed
    assert image.read_bytes() == right
    assert_as_committed(project)


def test_no_stage_writes_into_a_file_that_is_linked_to_the_cache(origin: Path, tmp_path: Path) -> None:
    """Every stage replaces its outputs, all of them hard links; each object of the cache still hashes to its name."""
    project = clone(origin, tmp_path, narrow=True)
    before = {path.name for path in objects(project / CACHE)}
    linked = [p for p in (project / "data").rglob("*.png") if p.stat().st_nlink > 1]
    assert len(linked) > 150
    set_params(project, seed=1)
    call(project, "dvc", "repro", "-q", "evaluate@binary-case")
    assert damaged(project / CACHE) == []
    assert before < {path.name for path in objects(project / CACHE)}
    shutil.rmtree(project / "models/binary-case")
    call(project, "git", "checkout", "-q", "HEAD", "--", ".")
    call(project, "dvc", "checkout", "-q", "--force")
    assert_as_committed(project)
