"""Train one model: compile, fit with the report's callbacks, log every epoch, resume where a run was killed."""

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.errors import MachineError
from biopsy.core.params import Params
from biopsy.core.sections.section import Task
from biopsy.core.sections.train import Train
from biopsy.networks.backend import keras
from biopsy.training.accumulation import LastStep, check_accumulate, steps_an_epoch
from biopsy.training.averaging import AveragedWeights, check_average
from biopsy.training.devices import on_devices, shared, shared_validation
from biopsy.training.divergence import cost_of_a_guess
from biopsy.training.fused_norm import fuse_batch_norms
from biopsy.training.inputs.features import head_on_features
from biopsy.training.inputs.feed import Feed, PixelFeed
from biopsy.training.inputs.loader import ImageStore, TrainingItems, batches_of, check_copies, cuts, training_items
from biopsy.training.inputs.place import HERE
from biopsy.training.light_steps import steps_at_once
from biopsy.training.losses import PlainValidationLoss, make_loss, plain_loss
from biopsy.training.losses import find as find_loss
from biopsy.training.memory import check_batch, limits_in_words
from biopsy.training.monitor import SCORES, ValidationScore, defined, early_stopping
from biopsy.training.optimizers.registry import find as find_optimizer
from biopsy.training.optimizers.registry import make_optimizer
from biopsy.training.progress import EpochBar, LiveLog
from biopsy.training.resume import TrainingState, seeded_epochs
from biopsy.training.schedules import learning_rate, plateau


def class_weights(items: TrainingItems, train: Train) -> dict[int, float] | None:
    """Weigh each class by n / (classes x its images), scikit-learn's 'balanced'; None where the parameters say none.

    Counted are the images that the network sees, minority copies included, or with `original` the copies are not:
    then a rare class is made up for twice.
    """
    if train.class_weights == "none":
        return None
    targets = items.target[~items.copy] if train.class_weights == "original" else items.target
    present, counts = np.unique(targets, return_counts=True)
    weights = len(targets) / (len(present) * counts)
    return dict(zip(present.tolist(), weights.tolist(), strict=True))


def check_train(train: Train) -> None:
    """Check the names that the section `train` takes from registries. Raises `ParamsError` for an unknown one."""
    find_optimizer(train.optimizer)
    find_loss(train.loss.name)


def check_engine(train: Train) -> None:
    """Check that Keras runs on what `train.backend` names. Raises `MachineError`."""
    if (found := keras.backend.backend()) != train.backend:
        raise MachineError(
            f"train.backend is {train.backend}, and Keras runs on {found} here. Run the stage by `dvc repro`, or set "
            f"KERAS_BACKEND to {train.backend}."
        )


def compile_model(model: Any, train: Train, targets: np.ndarray, epochs: int, steps: int, at_once: int = 1) -> None:
    """Attach optimiser, loss and metric; batch norm becomes one operation.

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
    at_once
        How many steps TensorFlow takes before it comes back to Python; a divisor of `steps`.
    """
    # The cosine goes by batches; an epoch ends with a step, as if it had batches for whole steps alone.
    whole = steps_an_epoch(steps, train.accumulate) * train.accumulate
    fuse_batch_norms(model)
    model.compile(
        optimizer=make_optimizer(train, learning_rate(train, epochs, whole), steps),
        loss=make_loss(train.loss, targets, max(2, model.output_shape[-1])),
        metrics=["accuracy", plain_loss()],
        # TensorFlow's XLA compiles for minutes and, on two cores, trains at 0.7 of the speed; JAX without it is slower.
        jit_compile=keras.backend.backend() == "jax",
        steps_per_execution=at_once,
    )
    # Create the variables of metrics and optimiser, as Keras itself does on JAX: TensorFlow would find them created by
    # its first trace of the step, and trace it once more, which takes longer than ten epochs of the sample.
    model._symbolic_build(data_batch=(model.input, model.output))


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
    cases: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> TrainingState:
    """Train `model`; at the end it holds the weights of the epoch that `train.monitor` finds best.

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
    cases
        (n_train,) the case of each training image, where train.sampling asks for it.
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
    ParamsError
        `train.accumulate` is more than all batches, or the training diverged.
    """
    train, by_case = params.train, params.train.sampling == "case"
    check_copies(params.augment, task)
    items = training_items(targets[:n_train], params.augment, task, cases if by_case else None)
    batch, epochs = min(train.batch, len(items)), train.epochs_of(task)
    steps = batches_of(len(items), batch)
    check_accumulate(steps, epochs, train.accumulate)
    if train.ema:
        check_average(steps, epochs, train.ema)
    images = PixelFeed(store, items, targets[n_train:], params, task, max(2, model.output_shape[-1]), batch, extra)
    feed: Feed = images
    if params.model.feature_views:
        model, feed = head_on_features(model, images, params.model.feature_views, title)
    with on_devices(model, train, np.diff(cuts(len(items), batch)), len(targets) - n_train) as model:
        compile_model(model, train, items.target, epochs, steps, steps_at_once(model, train, batch, steps))
        check_batch(model, ceil(batch / train.workers))
        patience = epochs if train.early_stopping_patience is None else train.early_stopping_patience
        monitor = defined(train.monitor, targets[n_train:], title)
        early = early_stopping(monitor, patience)
        averaged, reduce = [AveragedWeights()] if train.ema else [], plateau(train)
        guess = cost_of_a_guess(model, images.classes)
        state = TrainingState(state_file, fingerprint, early, [*averaged, *reduce], guess=guess)
        state.restore(model)
        if state.epoch and HERE.count == train.workers:  # not of what other processes have just done
            print(f"{title}: goes on after epoch {state.epoch}, where an earlier run was stopped")
        if not state.finished:
            last = [LastStep(steps)] if train.accumulate > 1 else []
            told = [state, *([] if HERE.rank else [LiveLog(live_dir, state), EpochBar(title, state, epochs)])]
            validation = shared_validation(feed.validation(), len(targets) - n_train, batch)
            scored = [ValidationScore(monitor, validation, targets[n_train:])] if monitor in SCORES else []
            seeded = seeded_epochs(params.seed, state)
            callbacks = [*seeded, PlainValidationLoss(), *last, *averaged, *scored, early, *reduce, *told]
            batches, weights = shared(feed.train(range(state.epoch, epochs)), class_weights(items, train))
            with limits_in_words(model, batch):
                model.fit(
                    batches,
                    validation_data=validation,
                    steps_per_epoch=steps,
                    initial_epoch=state.epoch,
                    epochs=epochs,
                    class_weight=weights,
                    callbacks=callbacks,
                    shuffle=False,  # the data set brings its own order
                    verbose=0,
                )
        elif HERE.count == 1:
            log = LiveLog(live_dir, state)
            log.on_train_begin()
            log.on_train_end()
    return state
