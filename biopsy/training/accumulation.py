"""Gradients that wait for a step (`train.accumulate`): none is lost at an epoch's end, and a step comes at all."""

import math
from typing import Any

from biopsy.core.errors import ParamsError
from biopsy.networks.backend import keras


def steps_an_epoch(batches: int, accumulate: int) -> int:
    """Count the optimiser's steps in an epoch; the last may be one of fewer batches."""
    return math.ceil(batches / accumulate)


def check_accumulate(batches: int, epochs: int, accumulate: int) -> None:
    """Check that a training has as many batches as one step wants. Raises `ParamsError`."""
    if accumulate > batches * epochs:
        raise ParamsError(
            f"train.accumulate is {accumulate}, and the whole training has {batches * epochs} batches "
            f"({epochs} epochs of {batches}). Set it to at most {batches}, or train.batch to fewer images."
        )


class LastStep(keras.callbacks.Callback):
    """After the last batch of an epoch, before validation, take a step with the gradients that wait for one.

    The step is of their mean, as each other step is of the mean of `accumulate` batches. The optimiser then counts as
    if the batches that are missing had come, so that the next epoch begins with none waiting.

    Parameters
    ----------
    batches
        Of an epoch.
    """

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Take the step where the epoch ends."""
        if batch + 1 < self.batches:
            return
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # between batches it holds the variables elsewhere
        optimizer: Any = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # float16 wraps it
        every = optimizer.gradient_accumulation_steps
        waiting = int(keras.ops.convert_to_numpy(optimizer._iterations)) % every  # Keras has no public names for these
        if not waiting:
            return
        for gathered in optimizer._accumulated_gradients:
            if gathered is not None:
                gathered.assign(gathered * (every / waiting))
        optimizer._iterations.assign_add(every - waiting - 1)
        variables = self.model.trainable_variables
        optimizer.apply([keras.ops.zeros(variable.shape, variable.dtype) for variable in variables], variables)
