"""Which Python runs a stage: the one that runs DVC, else one that has our packages, else a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

# A Python that says who it is; the other has no package of ours.
FITS = """#!/bin/sh
case "$1" in -c) exit 0 ;; *) echo "$0 $*" ;; esac
"""
UNFIT = "#!/bin/sh\nexit 1\n"


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


def run_stage(cwd: Path, *, path: Path, parent: str = "sh") -> subprocess.CompletedProcess[str]:
    """Run a stage below `parent`; three shells keep the Python of these tests from being taken for DVC's."""
    line = f"sh {ROOT}/stages/run.sh train --task binary"
    environment = {"PATH": f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    shells = f"sh -c 'sh -c \"{line}; exit\"; exit'; exit"
    command = ["sh", "-c", shells] if parent == "sh" else [parent, "-c", f"import os; os.system({line!r})"]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["python", "python3"])
def test_the_python_of_the_path_runs_it_where_dvc_has_none_that_fits(tmp_path: Path, name: str) -> None:
    put(tmp_path / "bin/python", UNFIT)
    python = put(tmp_path / "bin" / name, FITS)
    done = run_stage(tmp_path, path=python.parent)
    assert done.stdout.endswith("-m biopsy.core.stage train --task binary\n")
    assert f"bin/{name}" in done.stdout or done.stdout.startswith(name)


def test_the_environment_beside_the_project_is_the_last_resort(tmp_path: Path) -> None:
    for name in ("python", "python3"):
        put(tmp_path / "bin" / name, UNFIT)
    assert (
        "no Python with this project's packages was found. Activate"
        in run_stage(tmp_path, path=tmp_path / "bin").stderr
    )
    put(tmp_path / ".venv/bin/python", FITS)
    assert run_stage(tmp_path, path=tmp_path / "bin").stdout.startswith(".venv/bin/python -m biopsy.core.stage train")


def test_the_python_that_runs_dvc_runs_the_stage_though_it_is_not_on_the_path(tmp_path: Path) -> None:
    """As in cron, or `.venv/bin/dvc repro`."""
    for name in ("python", "python3"):
        put(tmp_path / "bin" / name, UNFIT)
    put(tmp_path / "stages/train.py", "import sys\nprint(sys.executable, *sys.argv)\n")
    (tmp_path / "biopsy").symlink_to(ROOT / "biopsy")
    done = run_stage(tmp_path, path=tmp_path / "bin", parent=sys.executable)
    assert done.stdout == f"{sys.executable} stages/train.py --task binary\n", done.stderr
