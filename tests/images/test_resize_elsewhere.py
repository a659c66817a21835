"""Images that are resized on other machines: the same bytes and the same sentences, whatever dies meanwhile."""

import pickle
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.core.engine import LOCAL, Engine, open_engine
from biopsy.core.errors import DataError, MachineError
from biopsy.images.resized_tree import Shrink
from noise import PREPARATION, Images


def ship(function: Any, *arguments: Any) -> Any:
    """Call a function as another machine does: nothing but bytes goes there and comes back."""
    sent, there = pickle.loads(pickle.dumps((function, arguments)))
    assert not any(isinstance(make.source, Path) for make in there[0]), (
        "the other machine does not see this one's files"
    )
    return pickle.loads(pickle.dumps(sent(*there)))


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
