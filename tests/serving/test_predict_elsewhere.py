"""`biopsy predict --engine ray`: what this machine would write, from machines that see none of its files."""

import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.cli import command
from biopsy.core.engine import LOCAL, Engine
from biopsy.core.errors import DataError, MachineError, ParamsError
from biopsy.serving.elsewhere import answer_there
from biopsy.serving.predict import run
from biopsy.serving.slides import run as slides
from painted_slides import damage, write_slide
from tiny_onnx import DARK, network, write_onnx

INPUTS = ("images", "more.zip", "list.csv")


def ship(function: Any, *arguments: Any) -> Any:
    """Call a function as another machine does, where no relative path leads to a file of this one."""
    sent, there = pickle.loads(pickle.dumps((function, arguments)))
    here = Path.cwd()
    os.chdir("/")
    try:
        return pickle.loads(pickle.dumps(sent(*there)))
    finally:
        os.chdir(here)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models and 40 images of several kinds, some of them bad; the working folder."""
    write_onnx(tmp_path / "one.onnx")
    card = DARK.model_copy(update={"temperature": 2.0})
    write_onnx(tmp_path / "two.onnx", card, network(card.preparation.size))
    (tmp_path / "images").mkdir()
    for number in range(36):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{number:02}.{('png', 'jpg', 'tif')[number % 3]}"), pixels)
    (tmp_path / "images/20.png").write_bytes(b"no image")
    (tmp_path / "images/empty.png").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "images/00.png", "deep/a.png")
        archive.writestr("deep/b.png", b"\x89PNG broken")
    (tmp_path / "list.csv").write_text("path,case\nimages/01.jpg,P1\ngone.png,P2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let `--engine ray` ship its tasks to a stand-in; how many images each of them held."""
    held: list[int] = []

    def call(function: Any, *arguments: Any) -> Any:
        held.append(len(arguments[1]))
        return ship(function, *arguments)

    @contextmanager
    def engine(kind: str) -> Iterator[Engine]:
        yield Engine(1, call) if kind == "ray" else LOCAL

    for verb in (run, slides):
        monkeypatch.setattr(verb, "open_engine", engine)
    return held


def table(out: str, *more: str) -> bytes:
    with pytest.raises(DataError, match=r"^4 of the images have no prediction"):
        command(["predict", *INPUTS, "--model", "one.onnx", "--model", "two.onnx", "--out", out, *more])
    return Path(out).read_bytes()


def test_other_machines_give_the_same_table(project: Path, tasks: list[int]) -> None:
    here = table("here.csv")
    assert not tasks
    assert table("there.csv", "--engine", "ray") == here
    assert 2 * sum(tasks) == here.count(b"\n") - 1
    assert tasks == [16, 16, sum(tasks) - 32]


def test_a_folder_of_keras_is_exported_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Folder:
        path = Path("models/binary-case")

    from biopsy.serving.elsewhere import answers_elsewhere

    with pytest.raises(ParamsError, match=r"^--engine ray takes exported models\. Run `biopsy export models/binary-"):
        next(answers_elsewhere(Engine(1, ship), [Folder()], []))  # type: ignore[list-item]


def test_a_machine_with_another_opencv_is_named(project: Path) -> None:
    with pytest.raises(MachineError, match=r"OpenCV .* Install 1\.0 there"):
        answer_there("1.0", [], Path("one.onnx").read_bytes())


def predict_slide(out: str, *more: str) -> dict[str, bytes]:
    with pytest.raises(DataError, match="tiles have no prediction"):
        command(["predict", "slide.tiff", "--model", "one.onnx", "--out", out, *more])
    return {path.name: path.read_bytes() for path in Path(out, "slide").iterdir()}


@pytest.fixture
def slide(project: Path) -> Path:
    """A slide with a damaged tile."""
    write_slide(project / "slide.tiff")
    damage(project / "slide.tiff")
    return project / "slide.tiff"


def test_the_tiles_of_a_slide_are_answered_there(slide: Path, tasks: list[int]) -> None:
    here = predict_slide("here")
    assert "summary.json" in here
    assert predict_slide("there", "--engine", "ray") == here
    assert sum(tasks) == here["tiles.csv"].count(b"\n") - 1


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_table(project: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    here = table("here.csv")
    assert table("there.csv", "--engine", "ray") == here
