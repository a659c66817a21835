"""What one training is fed with: training data epoch by epoch, and the validation data."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from biopsy.core.params import Params
from biopsy.core.sections.section import Task
from biopsy.training.inputs.batches import join_extra, plain_set, training_set
from biopsy.training.inputs.loader import ImageStore, TrainingItems, epoch_order


class Feed(Protocol):
    """Where `fit` gets its data from."""

    def train(self, epochs: range) -> Any:
        """Return the batches of these epochs, one epoch after the other."""

    def validation(self) -> Any:
        """Return the batches of the validation part, in its order."""


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
    extra
        (n, k) float32, what is known of each image of `store` beside its pixels; None where nothing is.
    """

    store: ImageStore
    items: TrainingItems
    val_targets: np.ndarray
    params: Params
    task: Task
    classes: int
    batch: int
    extra: np.ndarray | None = None

    def train(self, epochs: range, shuffled: bool = True) -> Any:
        """See `training_set`; with `extra`, images become a dict of `pixels` and `extra`."""
        batches = training_set(
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
        if self.extra is None:
            return batches
        n = len(self.items)
        groups, seed = self.items.groups, self.params.seed
        orders = [epoch_order(n, seed, epoch, groups) if shuffled else np.arange(n) for epoch in epochs]
        rows = self.extra[self.items.index]
        return join_extra(batches, rows, np.array(orders), self.batch, training=True, named=True)

    def validation(self) -> Any:
        """See `plain_set`; with `extra` as in `train`."""
        start = len(self.store) - len(self.val_targets)
        batches = plain_set(self.store, self.val_targets, classes=self.classes, start=start, batch=self.batch)
        if self.extra is None:
            return batches
        order = np.arange(len(self.val_targets))[None]
        return join_extra(batches, self.extra[start:], order, self.batch, training=False, named=True)
