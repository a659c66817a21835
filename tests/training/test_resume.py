"""A saved training is taken up only where it is whole and of this training; otherwise it starts again and says so."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopsy.networks.backend import keras
from biopsy.training.resume import TrainingState

Arrays = dict[str, np.ndarray]


def make_state(file: Path, units: int = 2, fingerprint: str = "this") -> tuple[Any, TrainingState]:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile("adam", "mse", run_eagerly=True)
    early = keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True)
    return model, TrainingState(file, fingerprint, early, [], guess=1.0)


def train(file: Path, units: int = 2) -> bytes:
    """Save two epochs, and return the file's bytes."""
    model, state = make_state(file, units)
    state.restore(model)
    x = np.ones((4, 3), np.float32)
    y = np.ones((4, units), np.float32)
    model.fit(x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=[state.early_stopping, state])
    return file.read_bytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return train(tmp_path_factory.mktemp("state") / "state.npz")


def packed(change: Callable[[Arrays], Any]) -> Callable[[bytes], bytes]:
    """Change the arrays of a state, and pack them again as a sound archive."""

    def edit(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as archive:
            arrays = {name: archive[name] for name in archive.files}
        change(arrays)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    return edit


def retold(**changes: Any) -> Callable[[bytes], bytes]:
    def change(arrays: Arrays) -> None:
        told = json.loads(arrays["told"].tobytes()) | changes
        arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)

    return packed(change)


def npy(_: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: b"P",
    "torn in the middle": lambda content: content[: len(content) // 2],
    "torn at its end": lambda content: content[:-1],
    "a flipped byte": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "zeros": lambda content: bytes(len(content)),
    "a text": lambda content: b"a note of somebody\n",
    "one array": npy,
    "without an array": packed(lambda arrays: arrays.pop("model/0")),
    "of another shape": packed(lambda arrays: arrays.update({"optimizer/2": np.zeros((5, 5))})),
    "without what it tells": packed(lambda arrays: arrays.pop("told")),
    "what it tells is no JSON": packed(lambda arrays: arrays.update(told=np.zeros(4, np.uint8))),
    "what it tells is a number": packed(lambda arrays: arrays.update(told=np.frombuffer(b"7", np.uint8))),
    "without counters": retold(counters=[]),
    "without history": retold(history=[]),
    "finished without weights": retold(best=0),
}


def test_a_whole_state_is_taken_up(saved: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state.npz").write_bytes(saved)
    model, state = make_state(tmp_path / "state.npz")
    state.restore(model)
    assert (state.epoch, state.finished) == (2, True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_left_aside_with_the_reason(
    saved: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    file = tmp_path / "state.npz"
    file.write_bytes(DAMAGE[damage](saved))
    model, state = make_state(file)
    before = model.get_weights()
    state.restore(model)
    assert (state.epoch, state.finished) == (0, False)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert capsys.readouterr().out.startswith(f"starting again from epoch 1, because {file} is damaged: ")
    if damage == "empty":
        train(file)
        make_state(file)[1].restore(model)
        assert "starting again" not in capsys.readouterr().out.partition("\n")[2]


def test_the_state_of_another_network_or_training_is_not_taken_up(saved: bytes, tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    file.write_bytes(saved)
    for given in ({"units": 4}, {"fingerprint": "another"}):
        model, state = make_state(file, **given)
        state.restore(model)
        assert state.epoch == 0
