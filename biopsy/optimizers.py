"""The optimisers by name: what `train.optimizer` may say."""

from collections.abc import Callable
from typing import Any

from biopsy.backend import keras
from biopsy.errors import ParamsError, nearest
from biopsy.sections import Train

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}


def make_optimizer(train: Train) -> Any:
    """Make the optimiser that the section `train` names. Raises `ParamsError` for an unknown one."""
    if train.optimizer not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise ParamsError(
            f"train.optimizer must be one of {known}. Got '{train.optimizer}'.{nearest(train.optimizer, OPTIMIZERS)}"
        )
    steps = train.accumulate if train.accumulate > 1 else None
    return OPTIMIZERS[train.optimizer](learning_rate=train.learning_rate, gradient_accumulation_steps=steps)
