"""Each extra that only uses models does its work with its own packages, without any of the pipeline's."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import biopsy
from biopsy.core.errors import MachineError
from biopsy.networks.model_file import write_card
from biopsy.serving import onnx_file
from conftest import ROOT
from painted_slides import write_slide
from tiny_onnx import DARK, write_onnx

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHA = "a" * 64
HIDING = """
import sys
hidden = set(sys.argv[1].split(","))
for finder in sys.meta_path:
    def find(name, *rest, given=finder.find_spec):
        return None if name.partition(".")[0] in hidden else given(name, *rest)
    finder.find_spec = find
import biopsy
assert not {"numpy", "pandas", "cv2", "pydantic"} & set(sys.modules), "importing biopsy costs something"
from biopsy.cli import command
"""
USES = {
    "predict": """
command(["predict", "a.png"])
assert "pandas" not in sys.modules, "the command waits for pandas"
command(["list"])
assert list(biopsy.load("models/dark").predict(["a.png"]).predicted) == ["malignant"]
command(["predict", "slide.tif", "--out", "slides"])
import uvicorn
uvicorn.Server.run = lambda server, sockets: print("serves", server.config.app.title)
command(["serve", "--port", "0"])
from biopsy.cli import main
sys.argv[1:] = ["tune", "adopt"]
main()
""",
    "explain": "command(['explain', 'a.png']); command(['predict', 'a.png', '--explain', 'maps'])",
    "serve": """
import uvicorn
from biopsy.serving.server import responses
uvicorn.Server.run = lambda server, sockets: print(server.config.app.title)
command(["serve", "--port", "0"])
from biopsy.serving.server.samples import SAMPLES, sample_png
dark = biopsy.load("models/dark")
images = [("a", open("a.png", "rb").read()), *((name, sample_png(name, 90, 60)) for name in SAMPLES)]
print(responses.predicted_rows(dark, images))
assert not any(row["error"] for row in responses.predicted_rows(dark, images))
assert responses.explained_rows(dark, images, responses.ExplainOptions(True, True))["explanations"][0]["error"] is None
""",
}
PRINTS = {
    "predict": [
        "a.png,malignant",
        "models/dark",
        "exports/dark.onnx",
        "slide.tif -> slides/slide",
        "serves Biopsy",
        "need the extra `pipeline`",
    ],
    "explain": ["explanations/a-explained.png", "maps/a-explained.png"],
    "serve": ["Biopsy", "'predicted': 'malignant'"],
}


def installed(extra: str) -> set[str]:
    """What `pip install '.[<extra>]'` installs: the distributions of pyproject.toml, and what they need."""
    waiting = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    found: set[str] = set()
    while waiting:
        need = Requirement(waiting.pop())
        name = canonicalize_name(need.name)
        if name not in found and (not need.marker or need.marker.evaluate({"extra": ""})):
            found.add(name)
            waiting += distribution(name).requires or []
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder as Keras leaves it, its exported file beside it, and an image."""
    card = DARK.model_copy(update={"model_sha256": SHA})
    (tmp_path / "models/dark").mkdir(parents=True)
    (tmp_path / "models/dark/model.keras").touch()
    write_card(tmp_path / "models/dark", card)
    write_onnx(tmp_path / "exports/dark.onnx", card)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 40, np.uint8))
    write_slide(tmp_path / "slide.tif")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models/dark"


@pytest.mark.parametrize("extra", USES)
def test_an_extra_installs_all_that_its_command_needs_and_nothing_reports_to_its_maker(
    folder: Path, extra: str
) -> None:
    light = installed(extra)
    assert not light & {"dvc", "h5py", "keras", "pandera", "scikit-learn", "tensorflow"}
    modules = packages_distributions()
    hidden = {name for name, owners in modules.items() if not light & set(map(canonicalize_name, owners))} - {"biopsy"}
    home = folder.parent.parent / "home"
    home.mkdir()
    own = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    done = subprocess.run(
        [sys.executable, "-c", HIDING + USES[extra], ",".join(hidden)],
        env=own | {"PYTHONPATH": str(ROOT), "HOME": str(home), "XDG_CACHE_HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert not list(home.rglob("*onnxruntime*")), "ONNX Runtime keeps a device id to report with"
    assert [words for words in PRINTS[extra] if words not in done.stdout] == [], done.stdout
    if extra == "predict":
        assert done.returncode == MachineError.exit_code
        assert "pip install -e '.[pipeline]'" in done.stderr.splitlines()[-1]


def test_without_keras_a_folder_stands_for_the_file_that_was_exported_of_it_and_of_no_other_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda _: None)
    assert biopsy.load(folder).predict(["a.png"])["predicted"][0] == "malignant"
    exported = folder.parent.parent / "exports/dark.onnx"
    exported.rename(folder / "model.onnx")
    assert biopsy.load(folder).predict(["a.png"])["predicted"][0] == "malignant"
    write_onnx(folder / "model.onnx", DARK.model_copy(update={"model_sha256": "b" * 64}))
    with pytest.raises(MachineError, match=r"has no Keras. Where the model was made, run `biopsy export .*dark`"):
        biopsy.load(folder)


def test_a_folder_that_holds_an_exported_file_alone_is_a_model(folder: Path) -> None:
    (folder.parent.parent / "exports/dark.onnx").rename(folder / "model.onnx")
    (folder / "model.keras").unlink()
    (folder / "model.json").unlink()
    assert biopsy.load(folder).predict(["a.png"])["predicted"][0] == "malignant"


def test_the_lock_pins_the_pipeline_and_no_package_of_another_extra() -> None:
    pinned = {canonicalize_name(Requirement(line).name) for line in (ROOT / "requirements.txt").read_text().splitlines()
              if line and not line.startswith("#")}  # fmt: skip
    extras = PROJECT["optional-dependencies"]
    wanted = {canonicalize_name(Requirement(need).name) for need in [*PROJECT["dependencies"], *extras["pipeline"]]}
    assert wanted <= pinned
    others = {canonicalize_name(Requirement(need).name) for need in [*extras["serve"], *extras["predict"]]} - wanted
    assert others
    assert not others & pinned
