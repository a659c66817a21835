"""A moving average of the weights (`train.ema`), as what is validated, kept and saved."""

from typing import Any

from biopsy.core.errors import warn
from biopsy.networks.backend import keras

MOST_OF_THE_FIRST = 0.5


def check_average(batches: int, epochs: int, momentum: float) -> None:
    """Warn where most of the average that is saved would be the weights after the first batch."""
    n = batches * epochs
    if n > 1 and (first := momentum ** (n - 1)) > MOST_OF_THE_FIRST:
        warn(
            f"train.ema is {momentum:g}, and the training has {n} batches ({epochs} epochs of {batches}): {first:.0%} "
            "of the average that is saved are the weights after the first one. Lower train.ema, or raise train.epochs."
        )


class AveragedWeights(keras.callbacks.Callback):
    """Put the averaged weights into the model when validation begins, and the trained ones back at the next epoch.

    So the validation loss, the weights that early stopping keeps, and the saved model are those of the average. Keras's
    SwapEMAWeights puts the trained weights back before early stopping looks, and swaps by adding and subtracting,
    which rounds. The running statistics of batch norm are averages already and stay as they are. Must come before the
    callbacks that read the weights.

    Attributes
    ----------
    swapped
        Whether the model holds the averages now, and the optimiser's averages the trained weights. Part of the
        resumable state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.swapped = False

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Validate the average."""
        if not self.swapped:
            self._swap()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Train on from the trained weights."""
        if self.swapped:
            self._swap()

    def _swap(self) -> None:
        """Exchange the values of the trainable weights and of their averages."""
        optimizer: Any = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # float16 wraps it
        averages = optimizer._model_variables_moving_average  # Keras has no public name for them
        for weight, average in zip(self.model.trainable_variables, averages, strict=True):
            held = keras.ops.convert_to_numpy(weight)
            weight.assign(keras.ops.convert_to_numpy(average))
            average.assign(held)
        self.swapped = not self.swapped
