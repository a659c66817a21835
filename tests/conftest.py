"""What the tests share: a scratch project, stages run as a user runs them, the real images where they are."""

import gc
import io
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import omegaconf
import pytest
import yaml
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from scratch import ROOT, run_once, warm

# A shell that runs us in the background has SIGINT ignored, which the processes that tests interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def read_yaml_in_c() -> None:
    """Let OmegaConf, and so Hydra, parse YAML in C: in Python it is half of what a test of parameters takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        loader = omegaconf._utils.get_yaml_loader()
    omegaconf._utils.get_yaml_loader = lambda: loader


read_yaml_in_c()


def pytest_configure(config: pytest.Config) -> None:
    """Keep what trainings keep for later ones out of the user's cache; pytest's workers inherit the folder."""
    if "BIOPSY_CACHE" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="biopsy-tests-")
        os.environ["BIOPSY_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what runs stages or the pipeline in processes of their own; put the first such file in front.

    It makes the run that the others clone, while the other worker has tests to do that need none.
    """
    shared = [item for item in items if "origin" in getattr(item, "fixturenames", ())]
    for item in items:
        if item in shared or "run_alone" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    items.sort(key=lambda item: not shared or item.path != shared[0].path)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from searching what is imported, again and again: a tenth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def kept_out_of_the_collectors_sight() -> Iterator[None]:
    """Do so again after each file: `seed_everything` collects, and searched what earlier files had imported."""
    yield
    gc.collect()
    gc.freeze()


@contextmanager
def steps_without_graphs() -> Iterator[None]:
    """Run each step of a short training as it stands, before its graph would be drawn; draw no sheet of its images.

    tests/training/test_contact_sheet.py has the sheets.
    """
    from biopsy.networks.backend import tf

    tf.config.run_functions_eagerly(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("biopsy.training.train_model.write_sheet", lambda *_: None)
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def quick_training(request: pytest.FixtureRequest) -> Iterator[None]:
    """Train without graphs, but for tests marked `graph`; tests/training and all that DVC runs train with them too."""
    if request.node.get_closest_marker("graph"):
        yield
        return
    with steps_without_graphs():
        yield


@pytest.fixture
def set_params(tmp_path: Path) -> Callable[..., Path]:
    """Write the default parameters to tmp_path/params.yaml, changed by `{"train.batch": 4}`-like overrides."""

    def write(overrides: dict[str, Any] | None = None) -> Path:
        params = OmegaConf.load(ROOT / "params.yaml")
        for key, value in (overrides or {}).items():
            OmegaConf.update(params, key, value, merge=False, force_add=True)
        OmegaConf.save(params, tmp_path / "params.yaml")
        return tmp_path / "params.yaml"

    return write


@pytest.fixture
def run_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the script stages/<name>.py with its arguments in tmp_path, in this process: its imports are done."""

    def run(name: str, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        script, out, err, code = ROOT / "stages" / f"{name}.py", io.StringIO(), io.StringIO(), 0
        terminate = signal.getsignal(signal.SIGTERM)
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", [str(script), *args])
            for key, value in (env or {}).items():
                patch.setenv(key, value)
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                signal.signal(signal.SIGTERM, terminate)
        return subprocess.CompletedProcess([name, *args], code, out.getvalue(), err.getvalue())

    return run


@contextmanager
def one_pixel_pictures() -> Iterator[None]:
    """Save each figure as one pixel: to draw takes a sixth of a stage's time."""
    pixel = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).write_bytes(pixel))
        yield


@pytest.fixture
def quick_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Save each figure as one pixel, but for tests marked `drawn`.

    What figures show has tests of its own in tests/evaluation and tests/tables, and tests/project runs it all.
    """
    if request.node.get_closest_marker("drawn"):
        yield
        return
    with one_pixel_pictures():
        yield


@pytest.fixture
def run_alone(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python stages/<name>.py <args>` in tmp_path in a process of its own, as `dvc repro` would.

    Stages that import TensorFlow begin with that done.
    """

    def run(name: str, *args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        usual = warm(ROOT) if name in ("train", "evaluate") else {**os.environ, "PYTHONPATH": str(ROOT)}
        environment = {**usual, **kwargs.pop("env", {})}
        return subprocess.run(
            [sys.executable, str(ROOT / "stages" / f"{name}.py"), *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            **kwargs,
        )

    return run


@pytest.fixture
def edit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Let a source file, named such as `biopsy/training/losses.py`, read as if a line had been added at its end."""
    read, added = Path.read_bytes, dict[str, bytes]()

    def edited(path: Path) -> bytes:
        return read(path) + next((line for name, line in added.items() if path == ROOT / name), b"")

    def edit(name: str, line: bytes = b"EDITED = True\n") -> None:
        assert (ROOT / name).is_file()
        added.clear()
        added[name] = line
        monkeypatch.setattr(Path, "read_bytes", edited)

    return edit


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mount something until the test ends: `mount(folder, "-t", "tmpfs", ...)`; skip where that is not allowed."""
    done: list[str] = []

    def run(place: Path, *options: str) -> None:
        if not shutil.which("mount"):
            pytest.skip("no `mount` on this machine")
        place.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if any(word in result.stderr.lower() for word in ("permi", "superuser")):  # permission, not permitted
            pytest.skip(f"mounting is not allowed here: {result.stderr.strip()}")
        assert result.returncode == 0, result.stderr
        done.append(str(place))

    yield run
    for place in reversed(done):
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def phone() -> Iterator[tuple[Any, list[str]]]:
    """A page of a browser, as wide as a phone and dark, and a list of what it prints and of its errors."""
    from playwright.sync_api import sync_playwright

    chromium, found = shutil.which("chromium"), list[str]()
    if not chromium:
        pytest.skip("needs the program chromium")
    with sync_playwright() as run:
        opened = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: found.append(message.text))
        page.on("pageerror", lambda error: found.append(str(error)))
        yield page, found
        opened.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real BreakHis images: BIOPSY_REAL_DATA, by default ../shared/breakhis."""
    folder = Path(os.environ.get("BIOPSY_REAL_DATA", ROOT.parent / "shared" / "breakhis"))
    if not (folder / "BreaKHis_v1").is_dir():
        pytest.skip(f"no real BreakHis images at {folder} (set BIOPSY_REAL_DATA)")
    return folder.resolve()


def assert_kind(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """A user's error: exit code not 0, one sentence with these words, no traceback."""
    assert result.returncode not in (0, None), result.stdout + result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    assert "error: " in result.stderr, result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} not in: {result.stderr}"


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `scratch.py`: the project, its pipeline run and pushed once for all workers of this pytest."""
    base = tmp_path_factory.getbasetemp()
    return run_once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "origin")
