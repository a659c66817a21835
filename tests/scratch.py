"""A scratch copy of this project: its pipeline run once for all test files, and as many clones of it as they want.

A base folder holds `project` and beside it `biopsy-remote`, where the default remote of `.dvc/config` lies.
"""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dvc.utils.hydra import compose_and_dump
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "data.sample.images": 96,
    "data.sample.width": 120,
    "data.sample.height": 80,
    "resize.size": 64,
    "train.epochs": 2,
}


UNDRAWN = {"BIOPSY_TEST_UNDRAWN": "1"}  # for stages whose figures a test does not look at: see tests/warm/server.py


def environment(root: Path, **more: str) -> dict[str, str]:
    """What a command sees: this environment's programs, the scratch project's modules, nobody's git settings.

    Coverage is not measured there: the modules are copies, so that tracing them would cost time and tell nothing.
    """
    untraced = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    person = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    person |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in person.items()}
    return {
        **untraced, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(root),
        "GIT_CONFIG_GLOBAL": os.devnull, "COLUMNS": "100",
        **person, **more,
    }  # fmt: skip


@functools.cache
def server() -> str:
    """Start the server that has the imports of stages and of DVC done, one for all workers; return its socket."""
    run, worker = os.environ.get("PYTEST_XDIST_TESTRUNUID"), os.getpid()
    folder = Path(tempfile.gettempdir()) / f"biopsy-{run or worker}"
    folder.mkdir(mode=0o700, exist_ok=True)
    address = folder / "socket"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            until = str(os.getppid() if run else worker)
            process = subprocess.Popen([sys.executable, str(ROOT / "tests/warm/server.py"), str(address), until])
            while not address.exists():
                assert process.poll() is None
                time.sleep(0.1)
    return str(address)


def warm(root: Path, **more: str) -> dict[str, str]:
    """Let stages and DVC begin with their imports done; `environment` is for tests of processes and how they end."""
    paths = f"{root}{os.pathsep}{ROOT / 'tests/warm'}"
    return environment(root, **{"PYTHONPATH": paths, "BIOPSY_TEST_SERVER": server(), **more})


def call(root: Path, *command: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in the scratch project; `more` goes into its environment."""
    needs_dvc = command[0] in ("dvc", "biopsy", "sh", "bash", sys.executable)
    variables = (warm if needs_dvc else environment)(root, **more)
    result = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=500)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def set_params(root: Path, **overrides: object) -> None:
    """Edit params.yaml, as a person would; `train__batch=4` is `train.batch: 4`."""
    params = OmegaConf.load(root / "params.yaml")
    for key, value in overrides.items():
        OmegaConf.update(params, key.replace("__", "."), value, merge=False)
    OmegaConf.save(params, root / "params.yaml")


def set_defaults(root: Path, **overrides: object) -> None:
    """Edit params.yaml and conf/, which `dvc exp run` composes it from, so that they still say the same."""
    set_params(root, **overrides)
    config = OmegaConf.load(root / "conf/config.yaml")
    config.defaults = [entry for entry in config.defaults if entry != "_self_"] + ["_self_"]
    for key, value in overrides.items():
        OmegaConf.update(config, key.replace("__", "."), value, merge=False, force_add=True)
    OmegaConf.save(config, root / "conf/config.yaml")


def commit(root: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    call(root, "git", "add", "-A")
    call(root, "git", "commit", "-qm", message)


def copy_project(base: Path) -> Path:
    """Copy the working tree, without what the pipeline wrote, to `base/project`; commit it on `main`, not yet run."""
    root = base / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("metrics/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    set_defaults(root, **SMALL)
    call(root, "git", "init", "-q", "-b", "main")
    commit(root, "begin")
    return root


def stand_in(root: Path, files: dict[str, str]) -> Path:
    """Make a project of our conf/ and of `files` by name, which stand in the place of our stages; commit it."""
    shutil.copytree(ROOT / "conf", root / "conf")
    for name, content in files.items():
        (root / name).write_text(content)
    compose_and_dump(root / "params.yaml", str(root / "conf"), None, "config", "params", [])
    for command in (["git", "init"], ["dvc", "init"], ["dvc", "config", "hydra.enabled", "true"]):
        call(root, *command, "-q")
    commit(root, "begin")
    return root


def run_once(folder: Path) -> Path:
    """Make the project below `folder`, run it, push it; where another worker of pytest is at it, wait for that one."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            root = copy_project(folder)
            assert "Traceback" not in call(root, "dvc", "repro").stderr
            commit(root, "run")
            call(root, "dvc", "push")
            call(root, "git", "switch", "-q", "-c", "narrow")
            leave_one_model(root)
            call(root, "dvc", "push")
            call(root, "git", "switch", "-q", "main")
            done.touch()
    return folder


def clone(origin: Path, base: Path, *, pull: bool = True, narrow: bool = False, options: tuple[str, ...] = ()) -> Path:
    """Clone the project to `base/project`, with a remote of its own beside it, and pull its data.

    With `narrow` it has one task and one protocol, binary and case: what trains takes a quarter of the time. What is
    pulled is pulled once for all tests, and copied with its links to the cache: pulling takes longer than most tests.
    """
    base.mkdir(parents=True, exist_ok=True)
    if not (base / "biopsy-remote").exists():
        shutil.copytree(origin / "biopsy-remote", base / "biopsy-remote")
    if pull and not options:
        pulled = pulled_once(origin, narrow)
        subprocess.run(["cp", "-a", str(pulled), str(base / "project")], check=True)
        return base / "project"
    call(base, "git", "clone", "-q", *options, f"file://{origin}/project", "project")
    if narrow:
        call(base / "project", "git", "reset", "-q", "--hard", "origin/narrow")
    if pull:
        call(base / "project", "dvc", "pull", "-q")
    return base / "project"


def pulled_once(origin: Path, narrow: bool) -> Path:
    """Clone and pull once for all workers; nobody works in that clone."""
    base = origin / ("pulled-narrow" if narrow else "pulled")
    with (origin / f"{base.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "done").exists():
            root = clone(origin, base, pull=False, narrow=narrow)
            call(root, "dvc", "pull", "-q")
            (base / "done").touch()
    return base / "project"


def leave_one_model(root: Path) -> None:
    """Leave one task and one protocol, and commit: the data stages run again and write what they wrote."""
    set_defaults(root, tasks=["binary"], protocols=["case"])
    call(root, "dvc", "repro", "-q")
    commit(root, "binary alone")
