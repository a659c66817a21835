"""What early stopping and the choice of the best epoch follow: `train.monitor`."""

from typing import Any

import numpy as np

from biopsy.core.errors import warn
from biopsy.networks.backend import keras
from biopsy.networks.temperature import both_classes
from biopsy.training.inputs.place import HERE

SCORES = ("val_macro_f1", "val_auc")  # more is better; the classes that validation holds are averaged


class LastEpoch(keras.callbacks.EarlyStopping):
    """Never stop, and keep the weights of the last epoch: what a training without early stopping uses."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Take this epoch for the best."""
        self.best_epoch, self.best_weights = epoch, self.model.get_weights()


class ValidationScore(keras.callbacks.Callback):
    """Add a score of all validation predictions to an epoch's figures; an average over batches would be another.

    Must come before the callbacks that read the figure.
    """

    def __init__(self, name: str, data: Any, targets: np.ndarray) -> None:
        super().__init__()
        self.name, self.data, self.targets = name, data, targets

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Predict the validation part once more, by the weights that it was just validated with."""
        if logs is not None:
            HERE.whole = True
            answers = self.model.predict(self.data, verbose=0)
            HERE.whole = False
            logs[self.name] = score(self.name, self.targets, answers)


def defined(monitor: str, targets: np.ndarray, title: str) -> str:
    """Return what a training can follow: `monitor`, or val_loss where one class alone is validated, with a warning."""
    if monitor in SCORES and len(np.unique(targets)) < 2:
        warn(f"{title}: train.monitor is {monitor}, and validation holds one class alone, so val_loss is followed.")
        return "val_loss"
    return monitor


def score(name: str, targets: np.ndarray, answers: np.ndarray) -> float:
    """Compute one of `SCORES`.

    Parameters
    ----------
    name
        Which.
    targets
        (n,) int, of two classes or more.
    answers
        (n, 1) probability of class 1, or (n, c).

    Returns
    -------
    float
        0 to 1: macro-F1, or the area under the ROC curve: of class 1, or with more classes the mean of one against the
        rest.
    """
    from sklearn.metrics import f1_score, roc_auc_score  # here: two seconds, which following the loss does not need

    answers = both_classes(np.asarray(answers, np.float64))
    present = np.unique(targets)
    if not np.isfinite(answers).all():
        return float("nan")  # `check_losses` stops the training
    if name == "val_macro_f1":
        chosen = (answers[:, 1] >= 0.5).astype(int) if answers.shape[1] == 2 else answers.argmax(axis=1)
        return float(f1_score(targets, chosen, labels=present, average="macro", zero_division=0.0))
    curves = [1] if answers.shape[1] == 2 else present
    return float(np.mean([roc_auc_score(targets == c, answers[:, c]) for c in curves]))


def early_stopping(monitor: str, patience: int) -> Any:
    """Make the callback that keeps the best weights and stops after `patience` epochs without better ones."""
    if monitor == "none":
        return LastEpoch(restore_best_weights=True)
    mode = "max" if monitor in SCORES else "min"
    return keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True)


def best_epoch(history: list[dict[str, float]], monitor: str) -> int:
    """Return the epoch, from 0, whose weights were kept.

    Parameters
    ----------
    history
        One dict an epoch; without the figure `monitor` val_loss was followed.
    monitor
        `train.monitor`.
    """
    if monitor == "none":
        return len(history) - 1
    if monitor in history[0] and monitor in SCORES:
        return int(np.argmax([figures[monitor] for figures in history]))
    return int(np.argmin([figures["val_loss"] for figures in history]))
