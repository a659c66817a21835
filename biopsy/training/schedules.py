"""The learning rate over a training: constant, cut on a plateau, or a cosine after a warm-up."""

from typing import Any

from biopsy.core.sections.train import Train
from biopsy.networks.backend import keras


def learning_rate(train: Train, epochs: int, steps: int) -> Any:
    """Return what the optimiser starts with: a number, or a function of the step.

    The cosine (Loshchilov and Hutter, 2017, arXiv 1608.03983, without restarts) depends on the number of batches done
    and nothing else, so that a resumed training goes on exactly.

    Parameters
    ----------
    train
        Its `learning_rate` and `schedule` count here.
    epochs
        The most epochs: where the cosine ends at `min_lr`, whether an early stop comes before or not.
    steps
        Batches in an epoch.

    Returns
    -------
    float or keras.optimizers.schedules.CosineDecay
        With a warm-up of w batches the rate grows linearly from learning_rate / w.
    """
    schedule, rate = train.schedule, train.learning_rate
    if schedule.name != "cosine":
        return rate
    warmup = schedule.warmup_epochs * steps
    return keras.optimizers.schedules.CosineDecay(
        rate / warmup if warmup else rate,
        decay_steps=max(1, epochs * steps - warmup),
        alpha=schedule.min_lr / rate,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


def plateau(train: Train) -> list[Any]:
    """Make the callback that cuts the learning rate where the schedule asks for one."""
    schedule = train.schedule
    if schedule.name != "plateau":
        return []
    return [
        keras.callbacks.ReduceLROnPlateau(
            "val_loss", factor=schedule.factor, patience=schedule.patience, min_lr=schedule.min_lr
        )
    ]
