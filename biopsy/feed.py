"""What one training is fed with: training data epoch by epoch, and the validation data."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from biopsy.loader import ImageStore, TrainingItems, plain_set, training_set
from biopsy.params import Params
from biopsy.sections import Task


class Feed(Protocol):
    """Where `fit` gets its data from."""

    def train(self, epochs: range) -> Any:
        """Return a `tf.data.Dataset` of the batches of these epochs, one epoch after the other."""

    def validation(self) -> Any:
        """Return a `tf.data.Dataset` of the validation part, in its order."""


@dataclass(frozen=True)
class PixelFeed:
    """Images, augmented as they are drawn.

    Attributes
    ----------
    store
        The images: the training part, then the validation part.
    items
        The training part's images, copies included.
    val_targets
        (n_val,) int.
    classes
        2 or the number of types.
    batch
        Images in a batch.
    """

    store: ImageStore
    items: TrainingItems
    val_targets: np.ndarray
    params: Params
    task: Task
    classes: int
    batch: int

    def train(self, epochs: range, shuffled: bool = True) -> Any:
        """See `training_set`."""
        return training_set(
            self.store,
            self.items,
            self.params.augment,
            self.task,
            classes=self.classes,
            batch=self.batch,
            seed=self.params.seed,
            epochs=epochs,
            shuffled=shuffled,
        )

    def validation(self) -> Any:
        """See `plain_set`."""
        start = len(self.store.array) - len(self.val_targets)
        return plain_set(self.store, self.val_targets, classes=self.classes, start=start, batch=self.batch)
