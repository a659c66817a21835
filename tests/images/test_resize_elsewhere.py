"""Images that are resized on other machines: the same bytes and the same sentences, whatever dies meanwhile."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from biopsy.core.engine import LOCAL, Engine, open_engine
from biopsy.core.errors import DataError, MachineError
from biopsy.core.files import write_csv
from biopsy.core.sections.data import Resize
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.resized_tree import Shrink, resize_all
from scratch import ROOT, environment

PREPARATION = Preparation(max_pixels=10**6, resize=Resize(size=32))


def ship(function: Any, *arguments: Any) -> Any:
    """Call a function as another machine does: nothing but bytes goes there and comes back."""
    sent, there = pickle.loads(pickle.dumps((function, arguments)))
    assert not any(isinstance(make.source, Path) for make in there[0]), (
        "the other machine does not see this one's files"
    )
    return pickle.loads(pickle.dumps(sent(*there)))


class Images:
    """Images of noise, their labels, and the trees that engines make of them."""

    def __init__(self, root: Path, count: int = 12, size: tuple[int, int] = (48, 64)) -> None:
        self.root, rows = root, []
        (root / "images").mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
            path = root / "images" / f"{number}.{('png', 'jpg', 'tif')[number % 3]}"
            cv2.imwrite(str(path), pixels)
            rows.append((f"id{number}", path.name, hash_pixels(read_rgb(path, 10**6))))
        self.labels = pd.DataFrame(rows, columns=["image_id", "path", "pixels_sha256"])

    def tree(self, name: str, engine: Engine = LOCAL) -> dict[str, bytes]:
        """Every file of the tree and of the journal, which lists images in the order in which they are ready."""
        resize_all(
            self.labels, self.root / "images", self.root / name, self.root / f"{name}-resume", PREPARATION, engine
        )
        journal = (self.root / f"{name}-resume/resized.jsonl").read_bytes().splitlines()
        files = [path for path in (self.root / name).iterdir() if path.is_file()]
        return {path.name: path.read_bytes() for path in files} | {"journal": b"\n".join(sorted(journal))}


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


def test_another_machine_makes_the_same_bytes(images: Images) -> None:
    assert images.tree("there", Engine(3, ship)) == images.tree("here")


@pytest.mark.parametrize("damage", ["missing", "broken", "changed"])
def test_a_bad_source_gives_the_same_sentence_there_as_here(images: Images, damage: str) -> None:
    path = images.root / "images/3.png"
    content = path.read_bytes()
    path.unlink()
    if damage == "broken":
        path.write_bytes(content[:-40])
    elif damage == "changed":
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    said = []
    for name, engine in (("here", LOCAL), ("there", Engine(3, lambda f, *a: f(*a)))):
        with pytest.raises(DataError) as error:
            images.tree(name, engine)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert str(path) in said[0]


def test_a_machine_with_another_opencv_makes_nothing(images: Images) -> None:
    with pytest.raises(MachineError, match=r"OpenCV .*Install 1\.0 there"):
        Shrink(images.root / "images/0.png", Path("0.png"), "", PREPARATION, "1.0")()


@pytest.mark.slow
def test_a_node_of_a_cluster_that_dies_in_mid_run_loses_no_image(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    images, small = Images(tmp_path, 60), {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    second, journal = cluster.add_node(**small), tmp_path / "there-resume/resized.jsonl"

    def kill() -> None:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    try:
        with open_engine("ray", cluster.address) as engine:
            there = images.tree("there", engine)
            killing.join(60)
            (images.root / "images/3.png").write_bytes(b"no image")
            with pytest.raises(DataError, match=r"3\.png"):
                images.tree("again", engine)
    finally:
        cluster.shutdown()
    assert not killing.is_alive()
    cv2.imwrite(str(tmp_path / "images/3.png"), np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    assert there == images.tree("here")


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

    def works(self) -> bool:
        """Say whether a process of Ray resizes images: it then bears the task's name."""
        names = []
        for number in self.processes():
            with suppress(OSError):
                names.append(Path(f"/proc/{number}/cmdline").read_bytes())
        return any(name.startswith(b"ray::run_here") for name in names)

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


@pytest.mark.slow
def test_the_stage_on_two_machines_of_which_one_dies_makes_the_bytes_of_one(
    machines: tuple[Machine, Machine, Path], set_params: Callable[..., Path]
) -> None:
    first, second, root = machines
    for folder in ("data/raw", "data/interim"):
        (root / folder).mkdir(parents=True)
    images = Images(root / "data/raw", 300, (480, 640))
    write_csv(root / "data/interim/labels.csv", images.labels.assign(width=640, height=480))
    (root / "stages").symlink_to(ROOT / "stages")
    stage = [sys.executable, "-P", "-m", "biopsy.core.stage", "resize"]

    def made() -> dict[str, bytes]:
        files = [path for part in ("data/resized", "metrics") for path in (root / part).rglob("*") if path.is_file()]
        found = {str(path): path.read_bytes() for path in files}
        for part in ("data/resized", "data/.resume", "metrics"):
            shutil.rmtree(root / part)
        return found

    shutil.copy(set_params({"resize.size": 32}), root)
    subprocess.run(stage, cwd=root, env=environment(ROOT), check=True, capture_output=True)
    here = made()
    shutil.copy(set_params({"resize.size": 32, "data.engine": "ray"}), root)
    first.ray(root, "first.log", "--head", "--port=6379", f"--temp-dir={root}", "--include-dashboard=false")
    second.ray(root, "second.log", "--address=10.97.0.1:6379")
    running, journal = first.start(*stage, cwd=root), root / "data/.resume/resized.jsonl"
    while not (second.works() and journal.exists() and journal.read_bytes().count(b"\n") > 20):
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.001)
    done = journal.read_bytes().count(b"\n")
    second.die()
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert "300 made, 0 kept" in said
    assert done < 250
    assert made() == here
