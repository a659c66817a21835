"""One process at a time writes what a stage writes, whoever started it and whoever has died."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from biopsy.core.errors import MachineError
from biopsy.core.files import atomic_dir, atomic_file, check_count
from biopsy.core.locks import stage_lock
from conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from biopsy.core.locks import stage_lock
with stage_lock("train binary case", Path(sys.argv[1]), 0):
    print("held", flush=True)
    time.sleep(60)
"""
# What dvc does: a shell command in a child, DVC_STAGE in its environment.
PARENT = """
import os, subprocess, sys
subprocess.run(["sh", "-c", f"exec {sys.executable} stage.py"], env={**os.environ, "DVC_STAGE": "fetch"})
"""
STAGE = """
import os, time
from pathlib import Path
from biopsy.core.stage import run_stage
def main():
    Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
run_stage(main)
"""


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE)


def test_a_second_process_is_told_who_is_still_writing_until_that_one_has_died(tmp_path: Path) -> None:
    first = python("-c", HOLD, str(tmp_path))
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(MachineError, match=f"train binary case is still being run by process {first.pid}"),
        stage_lock("train binary case", tmp_path, 0.2),
    ):
        pass
    with stage_lock("train binary image", tmp_path, 0):
        pass
    first.kill()  # whatever ends it: the lock goes with it
    with stage_lock("train binary case", tmp_path, 10):
        pass
    first.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "stage.py").write_text(STAGE)
    parent = python("-c", PARENT, cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(how)
    parent.wait()
    with stage_lock("stage", tmp_path / "data/.resume/locks", 10):  # free: it has ended
        pass
    parent.communicate()


def test_two_processes_never_share_a_temporary_name(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "a") as one, atomic_dir(tmp_path / "a") as two:
        assert one != two
    with atomic_file(tmp_path / "b.csv") as first, atomic_file(tmp_path / "b.csv") as second:
        assert first != second
        assert first.suffix == ".csv"
        for path in (first, second):
            path.touch()


def test_what_a_killed_run_left_is_removed_by_who_holds_the_lock_and_by_nobody_else(tmp_path: Path) -> None:
    names = ".out.new.1-abc.tmp", ".b.file.1-abc.tmp.csv", "..b.file.1-abc.tmp.file.1-def.tmp.csv"
    left = [tmp_path / name for name in names]
    left[0].mkdir()
    left[1].touch()
    left[2].touch()

    def write() -> None:
        with atomic_dir(tmp_path / "out"), atomic_file(tmp_path / "b.csv") as file:
            file.touch()

    write()
    assert all(path.exists() for path in left)
    with stage_lock("x", tmp_path / "locks", 0):
        write()
    assert not any(path.exists() for path in left)


def test_a_folder_with_fewer_files_than_were_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").touch()
    check_count(tmp_path, 1)
    with pytest.raises(MachineError, match="1 of 600 files are in"):
        check_count(tmp_path, 600)
