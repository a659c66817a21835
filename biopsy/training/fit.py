"""Train one model: compile, fit with the report's callbacks, log every epoch, resume where a run was killed."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from dvclive import Live
from scmrepo.exceptions import SCMError
from sklearn.utils.class_weight import compute_class_weight
from tqdm import tqdm

from biopsy.core.errors import MachineError
from biopsy.core.params import Params
from biopsy.core.sections import Task, Train
from biopsy.networks.backend import keras, tf
from biopsy.training.averaging import AveragedWeights
from biopsy.training.inputs.features import head_on_features
from biopsy.training.inputs.feed import Feed, PixelFeed
from biopsy.training.inputs.loader import ImageStore, training_items
from biopsy.training.losses import find as find_loss
from biopsy.training.losses import make_loss
from biopsy.training.memory import available_bytes, check_batch, out_of_memory
from biopsy.training.optimizers import find as find_optimizer
from biopsy.training.optimizers import make_optimizer
from biopsy.training.resume import TrainingState
from biopsy.training.schedules import learning_rate, plateau


class LiveLog(keras.callbacks.Callback):
    """Write each epoch's figures with DVCLive, so that `dvc plots show` follows a running training.

    Where `BIOPSY_PROGRESS` names a file, as `biopsy tune` does, it gets a line of JSON an epoch.
    """

    def __init__(self, folder: Path, state: TrainingState) -> None:
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


def class_weights(targets: np.ndarray, train: Train) -> dict[int, float] | None:
    """Weigh each class by n / (classes x its images), scikit-learn's 'balanced'; None where the parameters say none."""
    if train.class_weights == "none":
        return None
    present = np.unique(targets)
    weights = compute_class_weight("balanced", classes=present, y=targets)
    return dict(zip(present.tolist(), weights.tolist(), strict=True))


def check_train(train: Train) -> None:
    """Check the names that the section `train` takes from registries. Raises `ParamsError` for an unknown one."""
    find_optimizer(train.optimizer)
    find_loss(train.loss.name)


def compile_model(model: Any, train: Train, targets: np.ndarray, epochs: int, steps: int) -> None:
    """Attach optimiser, loss and metric.

    Parameters
    ----------
    model
        With one sigmoid output, or a softmax.
    train
        The section `train`.
    targets
        (n,) int, the training images' classes as the network will see them, copies included.
    epochs, steps
        The most epochs, and the batches of each.
    """
    model.compile(
        optimizer=make_optimizer(train, learning_rate(train, epochs, steps)),
        loss=make_loss(train.loss, targets, max(2, model.output_shape[-1])),
        metrics=["accuracy"],
        jit_compile=False,  # XLA compiles for minutes and, on two cores, trains at 0.7 of the speed
    )


def fit(
    model: Any,
    params: Params,
    task: Task,
    store: ImageStore,
    targets: np.ndarray,
    n_train: int,
    *,
    title: str,
    state_file: Path,
    fingerprint: str,
    live_dir: Path,
    extra: np.ndarray | None = None,
) -> TrainingState:
    """Train `model`; at the end it holds the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    model
        As `build_model` makes it.
    params, task
        The parameters in force and which of the tasks this is.
    store, targets, n_train
        Images and their classes (n,): the first `n_train` are for training, the rest for validation.
    title
        What the progress bar calls it.
    state_file, fingerprint
        Where the resumable state lives, and what this training depends on.
    live_dir
        DVCLive's folder.
    extra
        (n, k) float32: what is known of the images beside their pixels, where the model takes it.

    Returns
    -------
    TrainingState
        With the history: one dict of figures an epoch.

    Raises
    ------
    MachineError
        The batch does not fit into memory; names one that would.
    """
    train, items = params.train, training_items(targets[:n_train], params.augment, task)
    batch, epochs = min(train.batch, len(items)), train.epochs_of(task)
    images = PixelFeed(store, items, targets[n_train:], params, task, max(2, model.output_shape[-1]), batch, extra)
    feed: Feed = images
    if params.model.feature_views:
        model, feed = head_on_features(model, images, params.model.feature_views, title)
    steps = math.ceil(len(items) / batch)
    compile_model(model, train, items.target, epochs, steps)
    check_batch(model, batch)
    patience = epochs if train.early_stopping_patience is None else train.early_stopping_patience
    early = keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
    averaged, reduce = [AveragedWeights()] if train.ema else [], plateau(train)
    state = TrainingState(state_file, fingerprint, early, [*averaged, *reduce])
    state.restore(model)
    if state.epoch:
        print(f"{title}: goes on after epoch {state.epoch}, where an earlier run was stopped")
    if not state.finished:
        callbacks = [*averaged, early, *reduce, state, LiveLog(live_dir, state), EpochBar(title, state, epochs)]
        weights = class_weights(targets[:n_train], train)
        _fit(model, feed, range(state.epoch, epochs), steps, weights, callbacks, batch)
    else:
        log = LiveLog(live_dir, state)
        log.on_train_begin()
        log.on_train_end()
    return state


def _fit(
    model: Any,
    feed: Feed,
    epochs: range,
    steps: int,
    class_weight: dict[int, float] | None,
    callbacks: list[Any],
    batch: int,
) -> None:
    """Call `model.fit` for `epochs`, and put an exhausted memory in words."""
    try:
        model.fit(
            feed.train(epochs),
            validation_data=feed.validation(),
            steps_per_epoch=steps,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            class_weight=class_weight,
            callbacks=callbacks,
            shuffle=False,  # the data set brings its own order
            verbose=0,
        )
    except tf.errors.ResourceExhaustedError:
        raise out_of_memory(model, batch, available_bytes()) from None
