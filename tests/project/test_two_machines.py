"""Work that two machines share, in network namespaces: one of them dies, and the result is that of one machine."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.core.files import write_csv
from noise import Images
from painted_slides import BLUE, GLASS, RED, write_slide
from scratch import ROOT, environment
from tiny_onnx import DARK, write_onnx

pytestmark = pytest.mark.slow


class Machine:
    """A network namespace, and what runs there."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        told = {"RAY_ADDRESS": "10.97.0.1:6379", "RAY_AUTH_MODE": "disabled"}  # nobody else reaches it
        variables = environment(ROOT, RAY_USAGE_STATS_ENABLED="0", **told)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": variables, **options}
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)

    def ray(self, root: Path, log: str, *options: str) -> None:
        """Start a node of one core, which sees no file below `root` that this machine has."""
        hidden = 'mount -t tmpfs none "$0" && exec "$@"' if self.address != "10.97.0.1" else 'exec "$@"'
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={self.address}"]
        start += ["--num-cpus=1", "--object-store-memory=100000000", *options]
        with (root / log).open("w") as stream:
            running = self.start("sh", "-c", hidden, str(root), *start, stdout=stream)
        until = time.monotonic() + 120
        while "Ray runtime started" not in (root / log).read_text():
            assert running.poll() is None, (root / log).read_text()
            assert time.monotonic() < until, (root / log).read_text()
            time.sleep(0.1)

    def processes(self) -> list[int]:
        told = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(word) for word in told.stdout.split()]

    def works(self, task: str) -> bool:
        """Say whether a process of Ray does a task, whose name it then bears."""
        names = []
        for number in self.processes():
            with suppress(OSError):
                names.append(Path(f"/proc/{number}/cmdline").read_bytes())
        return any(name.startswith(f"ray::{task}".encode()) for name in names)

    def die(self) -> None:
        while numbers := self.processes():
            for number in numbers:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine, Path]]:
    """Two machines with a cable between them; below a folder of the first the second sees files of its own."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    two = [Machine(f"biopsy{os.getpid()}{letter}", f"10.97.0.{n}") for n, letter in ((1, "a"), (2, "b"))]
    cable = f"ip link add v0 netns {two[0].name} type veth peer name v0 netns {two[1].name}"
    commands = [f"ip netns add {machine.name}" for machine in two] + [cable]
    for machine in two:
        inside = f"ip -n {machine.name}"
        commands += [f"{inside} addr add {machine.address}/24 dev v0", f"{inside} link set v0 up"]
        commands += [f"{inside} link set lo up"]
    try:
        for command in commands:
            try:
                done = subprocess.run(command.split(), capture_output=True, text=True)
            except FileNotFoundError:
                pytest.skip("no `ip` on this machine (Debian: apt-get install iproute2)")
            if done.returncode:
                pytest.skip(f"no network namespaces here: `{command}`: {done.stderr.strip()}")
        with tempfile.TemporaryDirectory(prefix="two") as folder:  # short: sockets lie below it
            yield two[0], two[1], Path(folder)
            for machine in two:
                machine.die()
    finally:
        for machine in two:
            machine.die()
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True)


class Cluster:
    """Two machines on which Ray runs; `root` is a folder of the first that the second does not see."""

    def __init__(self, first: Machine, second: Machine, root: Path) -> None:
        self.first, self.second, self.root = first, second, root
        first.ray(root, "first.log", "--head", "--port=6379", f"--temp-dir={root}", "--include-dashboard=false")
        second.ray(root, "second.log", "--address=10.97.0.1:6379")

    def run(self, task: str, *command: str, begun: Callable[[], bool] = lambda: True) -> str:
        """Run a command on the first machine, and let the second die in the midst of a task; return what it said."""
        running = self.first.start(*command, cwd=self.root)
        while not (self.second.works(task) and begun()):
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.001)
        self.second.die()
        assert running.poll() is None, "it was done before the other machine died"
        said, _ = running.communicate(timeout=300)
        assert running.returncode == 0, said
        return said


def taken(root: Path, *parts: str) -> dict[str, bytes]:
    """Read all files below some folders, and remove these."""
    files = [path for part in parts for path in (root / part).rglob("*") if path.is_file()]
    found = {str(path): path.read_bytes() for path in files}
    for part in parts:
        shutil.rmtree(root / part)
    return found


def stage(name: str) -> list[str]:
    return [sys.executable, "-P", "-m", "biopsy.core.stage", name]


def test_the_resize_stage(machines: tuple[Machine, Machine, Path], set_params: Callable[..., Path]) -> None:
    root, journal = machines[2], machines[2] / "data/.resume/resized.jsonl"
    for folder in ("data/raw", "data/interim"):
        (root / folder).mkdir(parents=True)
    images = Images(root / "data/raw", 300, (480, 640))
    write_csv(root / "data/interim/labels.csv", images.labels.assign(width=640, height=480))
    (root / "stages").symlink_to(ROOT / "stages")
    shutil.copy(set_params({"resize.size": 32}), root)
    subprocess.run(stage("resize"), cwd=root, env=environment(ROOT), check=True, capture_output=True)
    here = taken(root, "data/resized", "metrics")
    shutil.rmtree(root / "data/.resume")
    shutil.copy(set_params({"resize.size": 32, "data.engine": "ray"}), root)
    done = []

    def begun() -> bool:
        done.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
        return done[-1] > 20

    assert "300 made, 0 kept" in Cluster(*machines).run("run_here", *stage("resize"), begun=begun)
    assert done[-1] < 250
    assert taken(root, "data/resized", "metrics") == here


def test_tiles_of_slides_that_both_see(
    machines: tuple[Machine, Machine, Path], set_params: Callable[..., Path], tmp_path: Path
) -> None:
    root = machines[2]
    pixels = np.full((2048, 4096, 3), GLASS, np.uint8)
    pixels[64:-64, 64:-64] = np.random.default_rng(0).integers(0, 200, (1920, 3968, 3))
    names = [f"s{number}.tif" for number in range(8)]
    for name in names:
        write_slide(tmp_path / name, pixels)
    (root / "slides.csv").write_text("slide,diagnosis\n" + "".join(f"{name},benign\n" for name in names))
    (root / "stages").symlink_to(ROOT / "stages")
    wsi = {"data.wsi": {"csv": "slides.csv", "folder": str(tmp_path), "px": 64, "um_per_pixel": 0.5, "most": 2000}}
    shutil.copy(set_params({"data.source": "wsi", **wsi}), root)
    subprocess.run(stage("fetch"), cwd=root, env=environment(ROOT), check=True, capture_output=True)
    here = taken(root, "data/raw")
    assert len(here) > 8 * 1000
    shutil.copy(set_params({"data.source": "wsi", "data.engine": "ray", **wsi}), root)
    Cluster(*machines).run("cut_out", *stage("fetch"))
    assert taken(root, "data/raw") == here


def test_predictions_of_images_and_of_the_tiles_of_a_slide(machines: tuple[Machine, Machine, Path]) -> None:
    first, second, root = machines
    larger = DARK.preparation.model_copy(update={"max_pixels": 10**6})
    write_onnx(root / "one.onnx", DARK.model_copy(update={"preparation": larger}))
    (root / "images").mkdir()
    for number in range(600):
        pixels = np.random.default_rng(number).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"images/{number}.png"), pixels)
    pixels = np.full((2048, 4096, 3), GLASS, np.uint8)
    pixels[64:-64, 64:2000], pixels[64:-64, 2000:-64] = RED, BLUE
    write_slide(root / "slide.tiff", pixels)
    predict = [sys.executable, "-P", "-m", "biopsy.cli", "predict", "--model", "one.onnx"]
    asked = {"images": "images", "slide": "slide.tiff"}
    for name, source in asked.items():
        out = [source, "--out", f"{name}.csv" if name == "images" else name]
        subprocess.run([*predict, *out], cwd=root, env=environment(ROOT), check=True, capture_output=True)
    here, here_slide = (root / "images.csv").read_bytes(), taken(root, "slide")
    (root / "images.csv").unlink()
    cluster = Cluster(first, second, root)
    cluster.run("answer_there", *predict, "images", "--out", "images.csv", "--engine", "ray")
    assert (root / "images.csv").read_bytes() == here
    second.ray(root, "again.log", "--address=10.97.0.1:6379")
    cluster.run("answer_there", *predict, "slide.tiff", "--out", "slide", "--engine", "ray")
    assert taken(root, "slide") == here_slide
