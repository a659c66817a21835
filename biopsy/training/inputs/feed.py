"""What one training is fed with: training data epoch by epoch, and the validation data."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from biopsy.core.params import Params
from biopsy.core.sections import Task
from biopsy.networks.backend import tf
from biopsy.training.inputs.loader import (
    ImageStore,
    TrainingItems,
    batched,
    batches_of,
    epoch_order,
    plain_set,
    training_set,
)


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
        rows = tf.constant(self.extra[self.items.index])
        return join_extra(batches, rows, np.array(orders), self.batch, training=True).map(_by_name)

    def validation(self) -> Any:
        """See `plain_set`; with `extra` as in `train`."""
        start = len(self.store.array) - len(self.val_targets)
        batches = plain_set(self.store, self.val_targets, classes=self.classes, start=start, batch=self.batch)
        if self.extra is None:
            return batches
        order = np.arange(len(self.val_targets))[None]
        return join_extra(batches, tf.constant(self.extra[start:]), order, self.batch, training=False).map(_by_name)


def join_extra(batches: Any, rows: Any, orders: np.ndarray, batch: int, *, training: bool) -> Any:
    """Put extra inputs beside images or features.

    Parameters
    ----------
    batches
        Of (images, targets), epoch by epoch, in the orders below.
    rows
        (n, k) float32: the extra inputs of the items.
    orders
        (epochs, n) int: which item comes when.
    batch
        Items in a batch.
    training
        Whether a rest of one item joins the batch before it, as in `training_set`.

    Returns
    -------
    tf.data.Dataset
        Of ((images, extra), targets).
    """
    epochs = tf.data.Dataset.from_tensor_slices(orders)
    n = orders.shape[1]

    def of_epoch(order: Any) -> Any:
        given = tf.data.Dataset.from_tensor_slices(tf.gather(rows, order))
        return batched(given, n, batch) if training else given.batch(batch)

    extra = epochs.flat_map(of_epoch)
    number = batches_of(n, batch) if training else math.ceil(n / batch)
    joined = tf.data.Dataset.zip((batches, extra)).map(lambda given, more: ((given[0], more), given[1]))
    return joined.apply(tf.data.experimental.assert_cardinality(len(orders) * number))


def _by_name(inputs: Any, targets: Any) -> Any:
    return {"pixels": inputs[0], "extra": inputs[1]}, targets
