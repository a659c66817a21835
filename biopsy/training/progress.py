"""What a running training tells: a log for DVC's plots, a line of JSON an epoch for `biopsy tune`, a bar."""

import json
import math
import os
from pathlib import Path
from typing import Protocol

from dvclive import Live
from scmrepo.exceptions import SCMError
from tqdm import tqdm

from biopsy.core.errors import MachineError
from biopsy.networks.backend import keras
from biopsy.training.resume import TrainingState

LATE = 0.2  # the share of the epochs that counts as a training's end
GAIN = 0.05  # of what guessing costs: a smaller fall of the validation loss is none


class Told(Protocol):
    """What is done of a training."""

    @property
    def history(self) -> list[dict[str, float]]:
        """One dict of figures an epoch."""


class LiveLog(keras.callbacks.Callback):
    """Write each epoch's figures with DVCLive, so that a running training can be followed.

    Where `BIOPSY_PROGRESS` names a file, as `biopsy tune` does, it gets a line of JSON an epoch.
    """

    def __init__(self, folder: Path, state: Told) -> None:
        super().__init__()
        self.folder, self.state = folder, state
        self.progress = Path(name) if (name := os.environ.get("BIOPSY_PROGRESS")) else None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start the log, with the epochs that a killed run had done already."""
        try:
            self.live = Live(str(self.folder), save_dvc_exp=False, dvcyaml=None)
        except SCMError:
            raise MachineError(
                "this git repository has no commit yet, and DVCLive needs one. Run `git commit`."
            ) from None
        if self.progress:
            self.progress.write_text("")
        for figures in self.state.history:
            self._log(figures)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the epoch that has just ended."""
        self._log(self.state.history[-1])

    def _log(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            part, metric = ("val", name[4:]) if name.startswith("val_") else ("train", name)
            self.live.log_metric(metric if name == "learning_rate" else f"{part}/{metric}", value)
        self.live.next_step()
        if self.progress:
            with self.progress.open("a") as stream:
                stream.write(json.dumps(figures) + "\n")

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the log."""
        self.live.end()


class EpochBar(keras.callbacks.Callback):
    """A progress bar of epochs with the figures that people watch."""

    def __init__(self, title: str, state: TrainingState, epochs: int) -> None:
        super().__init__()
        self.title, self.state, self.epochs = title, state, epochs

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar, at the epoch where a resumed run goes on."""
        self.bar = tqdm(total=self.epochs, initial=self.state.epoch, desc=self.title, unit="epoch")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the epoch's losses and validation accuracy."""
        figures = logs or {}
        self.bar.set_postfix({k: f"{figures[k]:.3f}" for k in ("loss", "val_loss", "val_accuracy") if k in figures})
        self.bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self.bar.close()


def still_improving(losses: list[float], epochs: int, classes: int) -> bool:
    """Say whether a training was still getting better when its epochs ran out.

    Parameters
    ----------
    losses
        The validation loss of each epoch.
    epochs
        The most epochs; a training that stopped before them is done.
    classes
        How many there are: a guess costs log(classes).

    Returns
    -------
    bool
        Whether the last fifth of the epochs lowered the validation loss by more than 5 % of what a guess costs.
    """
    before = losses[: len(losses) - max(1, round(LATE * len(losses)))]
    return len(losses) >= epochs and (not before or min(before) - min(losses) > GAIN * math.log(classes))
