"""Tell a training that has diverged, so that its weights are not saved as a model."""

import math
from typing import Any

from biopsy.core.errors import ParamsError

FAR = 100.0  # times the cost of a guess: no training that still learns is there for long
EPOCHS = 3  # in a row


def cost_of_a_guess(model: Any, classes: int) -> float:
    """Return the training loss of equal probabilities: log(classes), and the penalties of the untrained weights."""
    return math.log(classes) + sum(float(penalty) for penalty in model.losses)


def check_steps(optimizer: Any) -> None:
    """Reject a training whose every step was left out, as those of float16 are whose gradients overflow.

    Parameters
    ----------
    optimizer
        At the end of the training.

    Raises
    ------
    ParamsError
        The weights are those of the start.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None and not int(inner.iterations):
        raise ParamsError(
            "train.precision: in mixed_float16 the gradients of all steps overflowed, so nothing was learnt. Set "
            "mixed_bfloat16 or float32, or more train.epochs."
        )


def check_losses(history: list[dict[str, float]], guess: float, finished: bool) -> None:
    """Stop a training that has diverged. What rounds to infinity on one processor is a huge number on another.

    Parameters
    ----------
    history
        One dict an epoch: `loss`, `val_loss`, `learning_rate` and further figures.
    guess
        From `cost_of_a_guess`.
    finished
        Whether the last epoch of `history` ends the training. Then one epoch far off is enough.

    Raises
    ------
    ParamsError
        A figure is not finite; the training loss was more than 100 times `guess` in three epochs in a row, or in the
        last one; or the lowest validation loss is.
    """
    last, epoch = history[-1], len(history)
    with_rate = f"train.learning_rate: with {last['learning_rate']:g}"
    if not all(map(math.isfinite, last.values())):
        raise ParamsError(
            f"{with_rate} the loss of epoch {epoch} is not a finite number. "
            "Set a smaller one, or train.precision to float32."
        )
    needed = 1 if finished else EPOCHS
    wild = min(figures["loss"] for figures in history[-needed:]) if epoch >= needed else 0.0
    kept = min(figures["val_loss"] for figures in history) if finished else 0.0
    for what, loss in (("loss", wild), ("lowest validation loss", kept)):
        if loss > FAR * guess:
            raise ParamsError(
                f"{with_rate} the training diverged: its {what} is {loss:.3g} after epoch {epoch}, and guessing costs "
                f"{guess:.3g}. Set a smaller one, or train.clip_norm to 1."
            )
