"""The optimisers by name: what `train.optimizer` may say. Each is registered in the file of its code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from biopsy.core.registry import Registry
from biopsy.core.sections.train import Train
from biopsy.training.accumulation import steps_an_epoch

UNDECAYED = ["bias", "gamma", "beta"]  # decay pulls weights towards nothing; offsets and scales mean none by it


@dataclass(frozen=True)
class Optimizer:
    """One entry of the registry.

    Attributes
    ----------
    name
        What `train.optimizer` says.
    make
        From the keyword arguments of every Keras optimiser (learning_rate, weight_decay, global_clipnorm, use_ema,
        ema_momentum, gradient_accumulation_steps) to one.
    description
        One sentence, with its source.
    """

    name: str
    make: Callable[..., Any]
    description: str


OPTIMIZERS = Registry[Optimizer]("optimiser", "train.optimizer")
register, find = OPTIMIZERS.add, OPTIMIZERS.find


def make_optimizer(train: Train, learning_rate: Any, batches: int | None = None) -> Any:
    """Make the optimiser that the section `train` names.

    Weight decay is decoupled from the gradient (Loshchilov and Hutter, 2019, arXiv 1711.05101) and leaves biases and
    the scales and offsets of norms alone.

    Parameters
    ----------
    train
        Its `optimizer`, `weight_decay`, `clip_norm`, `ema` and `accumulate` count here.
    learning_rate
        A float or a Keras schedule.
    batches
        Of an epoch, whose last step may be one of fewer than `train.accumulate`; None: each step has them all.

    Raises
    ------
    ParamsError
        An unknown name.
    """
    a_step = batches / steps_an_epoch(batches, train.accumulate) if batches else train.accumulate
    optimizer = find(train.optimizer).make(
        learning_rate=learning_rate,
        weight_decay=train.weight_decay or None,
        global_clipnorm=train.clip_norm,
        use_ema=train.ema is not None,
        # Keras averages after every batch, also after those that only add to the gradient: the k-th root makes of k
        # such averages one of a step.
        ema_momentum=(train.ema or 0.99) ** (1 / a_step),
        gradient_accumulation_steps=train.accumulate if train.accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return optimizer
