"""Batches without TensorFlow: threads fill arrays ahead of the training; see `tf_batches` for what each function gives.

Batch i of a training depends on i alone, so that order, pixels and resuming are those of `tf_batches`.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from biopsy.core.sections.section import Task
from biopsy.core.sections.train import Augment
from biopsy.networks.backend import keras
from biopsy.training.augment.mix import mix_batch
from biopsy.training.augment.pipeline import augment_views
from biopsy.training.augment.registry import check_strengths
from biopsy.training.inputs.loader import ImageStore, TrainingItems, cuts, encode_targets, epoch_order
from biopsy.training.inputs.place import own_rows
from biopsy.training.tensors.engine import tf

WORKERS = min(16, os.cpu_count() or 1)


class Batches(keras.utils.PyDataset):
    """Batches by number, the next ones made ahead in threads.

    Keras has such threads too (`workers`), but stops them at the end of every epoch.

    Parameters
    ----------
    make
        From a number to a batch.
    number
        How many there are.
    """

    pool = ThreadPoolExecutor(
        WORKERS, initializer=cv2.setNumThreads, initargs=(1,)
    )  # the batches are the parallel unit

    def __init__(self, make: Callable[[int], Any], number: int) -> None:
        super().__init__()
        self.make, self.number = make, number
        self._ahead: dict[int, Future[Any]] = {}

    @property
    def num_batches(self) -> int:
        """How many batches there are."""
        return self.number

    def __getitem__(self, number: int) -> Any:
        """Return one batch, and have the next ones made."""
        wanted = range(number, min(number + 2 * WORKERS, self.number))
        for other in set(self._ahead) - set(wanted):
            self._ahead.pop(other).cancel()
        for each in wanted:
            if each not in self._ahead:
                self._ahead[each] = self.pool.submit(self.make, each)
        return self._ahead.pop(number).result()


def training_set(
    store: ImageStore,
    items: TrainingItems,
    augment: Augment,
    task: Task,
    *,
    classes: int,
    batch: int,
    seed: int,
    epochs: range,
    shuffled: bool = True,
    rows: np.ndarray | None = None,
) -> Batches:
    """Make the training data of several epochs, one after the other."""
    n, in_turn = len(items), np.arange(len(items)) if rows is None else rows
    targets, edges = encode_targets(items.target, classes), cuts(len(in_turn), batch)
    steps = len(edges) - 1
    of_all = check_strengths(augment.every, "augment.every")
    of_copies = check_strengths(augment.copies.get(task, {}), f"augment.copies.{task}")

    @lru_cache(2)
    def order_of(epoch: int) -> np.ndarray:
        return epoch_order(n, seed, epoch, items.groups) if shuffled and rows is None else in_turn

    def make(number: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, step = epochs.start + number // steps, number % steps
        drawn, chosen = tf.random.fold_in((seed, 0), epoch), order_of(epoch)[edges[step] : edges[step + 1]]
        images = np.empty((len(chosen), *store.shape[1:]), np.float32)
        own = range(len(chosen)) if augment.mix.is_on else own_rows(len(chosen))  # the rest is for other processes
        for place in own:
            item = chosen[place]
            strengths = of_copies if items.copy[item] else of_all
            images[place] = augment_views(store[items.index[item]], tf.random.fold_in(drawn, item), strengths)
        if not augment.mix.is_on:
            return images, targets[chosen]
        draw = tf.random.fold_in(tf.random.fold_in((seed, 1), epoch), step)
        return mix_batch(images, targets[chosen], draw, augment.mix)

    return Batches(make, steps * len(epochs))


def plain_set(store: ImageStore, targets: np.ndarray, *, classes: int, start: int, batch: int) -> Batches:
    """Make a validation set: the images from `start` on in their order, as they are, never augmented."""
    return plain_features(store.part(slice(start, start + len(targets))), encode_targets(targets, classes), batch)


def feature_set(features: np.ndarray, targets: np.ndarray, orders: np.ndarray, batch: int) -> Batches:
    """Make the training data of several epochs from stored features."""
    edges = cuts(len(targets), batch)
    steps = len(edges) - 1

    def make(number: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, step = divmod(number, steps)
        rows = orders[epoch, edges[step] : edges[step + 1]]
        return features[rows], targets[rows % len(targets)]

    return Batches(make, steps * len(orders))


def plain_features(features: np.ndarray | ImageStore, targets: np.ndarray, batch: int) -> Batches:
    """Make a validation set of stored features, or of images, in their order."""

    def make(number: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(number * batch, (number + 1) * batch)
        return features[part].astype(np.float32), targets[part]

    return Batches(make, math.ceil(len(targets) / batch))


def join_extra(
    batches: Batches, rows: np.ndarray, orders: np.ndarray, batch: int, *, training: bool, named: bool = False
) -> Batches:
    """Put extra inputs beside images or features."""
    n = orders.shape[1]
    edges = cuts(n, batch) if training else np.append(np.arange(0, n, batch), n)
    steps = len(edges) - 1

    def make(number: int) -> tuple[Any, np.ndarray]:
        epoch, step = divmod(number, steps)
        (given, targets), more = batches.make(number), rows[orders[epoch, edges[step] : edges[step + 1]]]
        return {"pixels": given, "extra": more} if named else (given, more), targets

    return Batches(make, batches.number)
