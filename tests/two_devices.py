"""One training on one device, on two, and in two processes of which one dies; prints JSON. A process has one engine.

The devices are virtual: two halves of the processor. JAX wants to be told of them by XLA_FLAGS, before it is imported.
The engine is the one that KERAS_BACKEND names; processes are JAX's alone.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Trained = tuple[list[np.ndarray], list[dict[str, float]]]
TRAIN, VALIDATION = 9, 5  # batches of 4 and 5, and of 4 and 1: some that two devices cannot share evenly


def train(folder: Path, devices: str = "one", workers: int = 1, engine: str = "local") -> Trained:
    """Train a convolution and a batch norm for a few epochs: weights, history; in `folder` the states of each epoch."""
    from biopsy.core.params import parse_params
    from biopsy.networks.backend import keras, seed_everything
    from biopsy.training.fit import fit
    from biopsy.training.inputs.loader import ImageStore
    from biopsy.training.processes import fit_on_workers

    jax = keras.backend.backend() == "jax"
    score_cheaply()
    settings = {"epochs": 2, "batch": 4, "optimizer": "sgd", "learning_rate": 0.1, "schedule": {"name": "constant"}}
    settings |= {"backend": keras.backend.backend(), "devices": devices, "workers": workers}
    # An epoch ends with a step of two; the score asks for the answers to all of validation.
    settings |= {"accumulate": 3, "monitor": "val_auc" if engine == "local" else "val_loss", "epochs": 3} if jax else {}
    params = parse_params({"train": settings, "augment": {"every": {"flip": True}}, "data": {"engine": engine}})
    seed_everything(0)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(x))
    targets = np.arange(TRAIN + VALIDATION) % 3 // 2
    images = np.random.default_rng(0).integers(0, 256, (len(targets), 8, 8, 3)).astype(np.uint8)
    np.save(folder / "images.npy", images)
    store = ImageStore.whole(np.load(folder / "images.npy", mmap_mode="r"))
    state = (fit if workers == 1 else fit_on_workers)(
        model, params, "binary", store, targets, TRAIN, title="devices",
        state_file=folder / "state.npz", fingerprint="", live_dir=folder / "live",
    )  # fmt: skip
    return model.get_weights(), state.history


def score_cheaply() -> None:
    """Let a score be of all answers, as those of scikit-learn, whose import takes longer than a training here."""
    from biopsy.training import monitor

    monitor.score = lambda name, targets, answers: float(targets @ answers[:, 0])  # type: ignore[assignment]


def compare() -> dict[str, Any]:
    """How far the weights, and the losses of validation, lie apart."""
    from biopsy.networks.backend import keras
    from biopsy.training.devices import _devices

    if keras.backend.backend() == "tensorflow":
        from biopsy.networks.backend import tf

        half = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        with states_kept():
            alone = train(Path(one))
        told = {"devices": len(_devices()), **apart(alone, train(Path(other), "all"))}
        if keras.backend.backend() == "jax":
            told["workers"] = in_two_processes(alone, Path(one))
    return told


@contextmanager
def states_kept() -> Iterator[None]:
    """Keep the state after each epoch: state1.npz and so on."""
    from biopsy.training.resume import TrainingState

    usual = TrainingState.on_epoch_end

    def on_epoch_end(self: Any, epoch: int, logs: Any = None) -> None:
        usual(self, epoch, logs)
        shutil.copy(self.file, self.file.with_name(f"state{epoch + 1}.npz"))

    TrainingState.on_epoch_end = on_epoch_end  # type: ignore[method-assign]
    try:
        yield
    finally:
        TrainingState.on_epoch_end = usual  # type: ignore[method-assign]


def apart(alone: Any, together: Any) -> dict[str, float]:
    """How far two trainings lie apart, and what the first has learnt."""
    (one, before), (two, after) = alone, together
    return {
        "weights": max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True)),
        "loss": max(abs(a["val_loss"] - b["val_loss"]) for a, b in zip(before, after, strict=True)),
        "learnt": abs(before[0]["val_loss"] - before[1]["val_loss"]),
    }


def in_two_processes(alone: Any, states: Path) -> dict[str, Any]:
    """Train the second epoch in two processes, of which one is killed in the third; and that in this process."""
    from biopsy.core.errors import MachineError

    with tempfile.TemporaryDirectory() as name:
        folder, said = Path(name), "nothing"
        shutil.copy(states / "state1.npz", folder / "state.npz")
        os.environ |= {"BIOPSY_TEST_WATCH": name, "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # one device each
        try:
            train(folder, workers=2)
        except MachineError as error:
            said = str(error)
        with np.load(folder / "state.npz") as state:
            epochs = len(json.loads(state["told"].tobytes())["history"])
        left = sorted(path.name for path in folder.iterdir())
        return {"said": said, "epochs": epochs, "left": left, **apart(alone, train(folder))}


def on_ray() -> dict[str, float]:
    """Train in two processes of a cluster of this machine's, and in one."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        return apart(train(Path(one), engine="ray"), train(Path(other), workers=2, engine="ray"))


def watch_a_worker(folder: Path) -> None:
    """In a process that is not the first, let no file of the training be written; kill it in the third epoch."""
    from biopsy.training.inputs.array_batches import Batches
    from biopsy.training.inputs.place import HERE

    score_cheaply()
    begun, usual = (folder / "state.npz").stat().st_ino, Batches.__getitem__

    def look(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and set(given[1] or "") & set("wax+")
        if writes and HERE.rank and str(given[0]).startswith(str(folder)):
            print(f"process {HERE.rank} wrote {given[0]}", file=sys.stderr, flush=True)
            os._exit(3)

    def get(self: Any, number: int) -> Any:
        if HERE.rank and number == 3:  # the last batch of the third epoch, where the first process saves the second
            while (folder / "state.npz").stat().st_ino == begun:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(self, number)

    sys.addaudithook(look)
    Batches.__getitem__ = get  # type: ignore[method-assign]


if "BIOPSY_TEST_WATCH" in os.environ:  # a process that another one starts imports its script
    watch_a_worker(Path(os.environ["BIOPSY_TEST_WATCH"]))
if __name__ == "__main__":
    print(json.dumps(on_ray() if "ray" in sys.argv else compare()))
