"""Resume a training exactly: everything that the next epoch depends on, saved at each epoch's end.

Keras's BackupAndRestore forgets what EarlyStopping and ReduceLROnPlateau have counted, so that a crash moves the
learning-rate cut and the stop. Here the callbacks' own state is part of the checkpoint.
"""

import json
import time
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.errors import reason_of
from biopsy.core.files import atomic_file
from biopsy.networks.backend import keras
from biopsy.training.divergence import check_losses, check_steps
from biopsy.training.inputs.place import HERE

# What each callback counts, by the callback's class.
COUNTERS = {
    "AveragedWeights": ("swapped",),
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch"),
    "LastEpoch": ("best_epoch",),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
}
BROKEN = (zipfile.BadZipFile, zlib.error)


class TrainingState(keras.callbacks.Callback):
    """Save the training at each epoch's end, and put it back. Must come after the callbacks whose counters it saves.

    Parameters
    ----------
    file
        Where the state lives: outside DVC's outputs, which DVC may remove before a stage runs.
    fingerprint
        What the training depends on (parameters, data). A state with another fingerprint is not resumed.
    early_stopping
        Its best weights are saved too.
    others
        Further callbacks with counters.
    guess
        What guessing costs; see `check_losses`.

    Attributes
    ----------
    history
        One dict of figures per epoch that is done, those of earlier runs included.
    seconds
        How long each epoch of this run took, validation included.
    """

    def __init__(self, file: Path, fingerprint: str, early_stopping: Any, others: list[Any], *, guess: float) -> None:
        super().__init__()
        self.file, self.fingerprint, self.guess = file, fingerprint, guess
        self.early_stopping, self.counting = early_stopping, [early_stopping, *others]
        self.history: list[dict[str, float]] = []
        self.finished = False
        self.seconds: list[float] = []
        self._counters: list[dict[str, Any]] | None = None
        self._best: list[np.ndarray] | None = None

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return len(self.history)

    def restore(self, model: Any) -> None:
        """Put back the saved state, if there is one of this training; call it after `compile`, before `fit`.

        A state that cannot be read is left aside: it saves time and holds nothing that the training cannot make again.
        """
        model.optimizer.build(model.trainable_variables)
        try:
            saved = self._read(model) if self.file.is_file() else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, *BROKEN) as error:
            print(f"starting again from epoch 1, because {self.file} is damaged: {reason_of(error)}")
            return
        if saved is None:
            return
        arrays, told = saved
        for name, variables in _variables(model).items():
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{name}/{i}"])
        self.history, self.finished, self._counters = told["history"], told["finished"], told["counters"]
        self._best = [arrays[f"best/{i}"] for i in range(told["best"])]
        if self.finished:
            model.set_weights(self._best)

    def _read(self, model: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read the state, None where it is of another training; raise where it does not fit `model` in every part."""
        with np.load(self.file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        told = json.loads(arrays.pop("told").tobytes())
        if told["fingerprint"] != self.fingerprint:
            return None
        wanted = {f"{name}/{i}": v.shape for name, group in _variables(model).items() for i, v in enumerate(group)}
        if told["best"]:
            wanted |= {f"best/{i}": weight.shape for i, weight in enumerate(model.weights)}
        if {name: array.shape for name, array in arrays.items()} != {name: tuple(s) for name, s in wanted.items()}:
            raise ValueError("its arrays are not those of this network")
        if told["best"] not in (0, len(model.weights)) or (told["finished"] and not told["best"]):
            raise ValueError("it lacks the best weights")
        if not told["history"] or [sorted(counters) for counters in told["counters"]] != [
            sorted(COUNTERS[type(callback).__name__]) for callback in self.counting
        ]:
            raise ValueError("it lacks the history or the counters")
        return arrays, told

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put back the counters: the callbacks before this one have just reset theirs."""
        for callback, counters in zip(self.counting, self._counters or [], strict=False):
            for name, value in counters.items():
                setattr(callback, name, value)
        if self._best is not None:
            self.early_stopping.best_weights = self._best

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the time, and the learning rate that this epoch trains with; a callback may cut it at the end."""
        self._begun = time.perf_counter()
        self._learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save everything under a temporary name and rename it: a kill leaves the old state or the new one."""
        figures = {name: float(value) for name, value in (logs or {}).items() if name != "learning_rate"}
        self.history.append({**figures, "learning_rate": self._learning_rate})
        self.seconds.append(time.perf_counter() - self._begun)
        finished = bool(self.model.stop_training) or self.epoch >= self.params["epochs"]
        check_losses(self.history, self.guess, finished)
        if finished:
            check_steps(self.model.optimizer)
        if HERE.rank:
            return
        best = self.early_stopping.best_weights or []
        told = {
            "fingerprint": self.fingerprint,
            "finished": finished,
            "history": self.history,
            "counters": [
                {name: getattr(callback, name) for name in COUNTERS[type(callback).__name__]}
                for callback in self.counting
            ],
            "best": len(best),
        }
        arrays = {
            f"{name}/{i}": keras.ops.convert_to_numpy(variable)
            for name, variables in _variables(self.model).items()
            for i, variable in enumerate(variables)
        }
        arrays |= {f"best/{i}": array for i, array in enumerate(best)}
        arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        with atomic_file(self.file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)


def seeded_epochs(seed: int, state: TrainingState) -> list[Any]:
    """Make the callbacks that seed PyTorch's one generator, of which its dropout draws, with an epoch's first batch.

    Layers of other engines draw from variables, which the state keeps.
    """
    if keras.backend.backend() != "torch":
        return []

    def begin(batch: int, logs: dict[str, float] | None = None) -> None:
        if batch == 0:  # not before: a DataLoader that begins draws a number, too
            import_module("torch").manual_seed(seed + 1_000_003 * state.epoch)

    return [keras.callbacks.LambdaCallback(on_train_batch_begin=begin)]


def _variables(model: Any) -> dict[str, list[Any]]:
    """List what a training changes, by the part that it belongs to."""
    return {"model": model.variables, "optimizer": model.optimizer.variables}
