"""Batches through `tf.data`, where Keras runs on TensorFlow; `array_batches` gives the same ones without it."""

import math
from typing import Any

import numpy as np

from biopsy.core.sections.section import Task
from biopsy.core.sections.train import Augment
from biopsy.networks.backend import tf
from biopsy.training.augment.mix import mix_batch
from biopsy.training.augment.pipeline import augment_views
from biopsy.training.augment.registry import check_strengths
from biopsy.training.inputs.loader import ImageStore, TrainingItems, batches_of, cuts, encode_targets, epoch_order

AT_ONCE = 32  # images that are fetched by one call into Python


def _as_written(function: Any) -> Any:
    """Let a function be traced as it stands; AutoGraph would rewrite it through files in /tmp, for half a second."""
    return tf.autograph.experimental.do_not_convert(function)


def getter(store: ImageStore) -> Any:
    """Return a function from an index tensor (k,) to a uint8 tensor of images, (k, size, size, 3).

    A tensor of all images would be copied: TensorFlow rewrites the graph of a deterministic input, with what it holds.
    """

    def fetch(index: Any) -> Any:
        images = tf.numpy_function(lambda rows: store[rows], [index], tf.uint8, stateful=False)
        return tf.ensure_shape(images, (None, *store.shape[1:]))

    return fetch


def batched(rows: Any, n: int, batch: int, make: Any = None) -> Any:
    """Put rows into batches; a rest of one joins the batch before it, since batch norm makes nothing of one image.

    Parameters
    ----------
    rows
        tf.data.Dataset of n rows.
    n, batch
        Rows in all, and in a batch.
    make
        From a dataset of rows to one of what the batches shall hold; None: the rows themselves.

    Returns
    -------
    tf.data.Dataset
        Of `batches_of(n, batch)` batches.
    """

    def some(part: Any, size: int) -> Any:
        return (part if make is None else make(part)).batch(size)

    *_, last, _ = cuts(n, batch)
    if n - last <= batch:
        return some(rows, batch)
    return some(rows.take(last), batch).concatenate(some(rows.skip(last), batch + 1))


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
) -> Any:
    """Make the training data of several epochs, one after the other.

    Order and augmentation are functions of (seed, epoch, position) alone, mixing of (seed, epoch, batch): a run that
    was killed and resumes at epoch 3 sees what the unbroken run saw. Batches never cross epochs. Not `shuffled`, the
    items come in their own order, each augmented as it is in the shuffled epoch; with `rows`, those items alone.

    Returns
    -------
    tf.data.Dataset
        Of (images (b, size, size, 3) float32 0 to 255, targets as `encode_targets` makes them, mixed where
        `augment.mix` says so), `batches_of(n, batch)` batches an epoch.
    """
    n, get = len(items), getter(store)
    in_turn = np.arange(n) if rows is None else rows
    shuffled = shuffled and rows is None
    orders = tf.constant(
        np.stack([epoch_order(n, seed, epoch, items.groups) if shuffled else in_turn for epoch in epochs] or [in_turn]),
        tf.int32,
    )
    index, target, copy = map(tf.constant, (items.index, encode_targets(items.target, classes), items.copy))
    of_all = check_strengths(augment.every, "augment.every")
    of_copies = check_strengths(augment.copies.get(task, {}), f"augment.copies.{task}")

    def example(epoch: Any, item: Any, image: Any) -> Any:
        draw = tf.random.fold_in(tf.random.fold_in(tf.constant([seed, 0]), tf.cast(epoch, tf.int32)), item)
        if not items.copy.any():
            return augment_views(image, draw, of_all), target[item]
        changed = tf.cond(
            copy[item], lambda: augment_views(image, draw, of_copies), lambda: augment_views(image, draw, of_all)
        )
        return changed, target[item]

    def mixed(epoch: Any, number: Any, examples: tuple[Any, Any]) -> tuple[Any, Any]:
        draw = tf.random.fold_in(tf.constant([seed, 1]), tf.cast(epoch, tf.int32))
        return mix_batch(*examples, tf.random.fold_in(draw, tf.cast(number, tf.int32)), augment.mix)

    def examples(epoch: Any, rows: Any) -> Any:
        images = rows.batch(AT_ONCE).map(lambda some: (some, get(tf.gather(index, some)))).unbatch()
        return images.map(lambda item, image: example(epoch, item, image), tf.data.AUTOTUNE)

    def one_epoch(epoch: Any) -> Any:
        order = tf.data.Dataset.from_tensor_slices(orders[epoch - epochs.start])
        batches = batched(order, len(in_turn), batch, lambda rows: examples(epoch, rows))
        if not augment.mix.is_on:
            return batches
        return batches.enumerate().map(lambda number, examples: mixed(epoch, number, examples), tf.data.AUTOTUNE)

    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(_as_written(one_epoch)).prefetch(2)


def plain_set(store: ImageStore, targets: np.ndarray, *, classes: int, start: int, batch: int) -> Any:
    """Make a validation set: the images from `start` on in their order, as they are, never augmented."""
    get = getter(store)
    encoded = encode_targets(targets, classes)
    rows = tf.data.Dataset.from_tensor_slices((np.arange(start, start + len(targets)), encoded))
    pixels = _as_written(lambda i, y: (tf.cast(get(i), tf.float32), y))
    return rows.batch(batch).map(pixels, tf.data.AUTOTUNE).prefetch(2)


def join_extra(
    batches: Any, rows: np.ndarray, orders: np.ndarray, batch: int, *, training: bool, named: bool = False
) -> Any:
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
    named
        Whether the inputs go by their names, `pixels` and `extra`, and not by their places.

    Returns
    -------
    tf.data.Dataset
        Of ((images, extra), targets).
    """
    given_rows = tf.constant(rows)
    epochs = tf.data.Dataset.from_tensor_slices(orders)
    n = orders.shape[1]

    def of_epoch(order: Any) -> Any:
        given = tf.data.Dataset.from_tensor_slices(tf.gather(given_rows, order))
        return batched(given, n, batch) if training else given.batch(batch)

    extra = epochs.flat_map(_as_written(of_epoch))
    number = batches_of(n, batch) if training else math.ceil(n / batch)
    join = _as_written(
        lambda given, more: ({"pixels": given[0], "extra": more} if named else (given[0], more), given[1])
    )
    joined = tf.data.Dataset.zip((batches, extra)).map(join)
    return joined.apply(tf.data.experimental.assert_cardinality(len(orders) * number))


def feature_set(features: np.ndarray, targets: np.ndarray, orders: np.ndarray, batch: int) -> Any:
    """Make the training data of several epochs from stored features.

    Parameters
    ----------
    features
        (views * n, ...) float32.
    targets
        (n, c), encoded.
    orders
        (epochs, n) int: the row of `features` that comes when; its target is that of the row modulo n.
    batch
        Rows in a batch.

    Returns
    -------
    tf.data.Dataset
        Of (features, targets), `batches_of(n, batch)` batches an epoch.
    """
    n, known = len(targets), tf.constant(targets)

    def load(rows: Any) -> Any:
        found = tf.numpy_function(lambda rows: features[rows], [rows], tf.float32, stateful=False)
        return tf.ensure_shape(found, (None, *features.shape[1:])), tf.gather(known, rows % n)

    def one_epoch(order: Any) -> Any:
        return batched(tf.data.Dataset.from_tensor_slices(order), n, batch).map(load)

    return tf.data.Dataset.from_tensor_slices(orders).flat_map(_as_written(one_epoch)).prefetch(2)


def plain_features(features: np.ndarray, targets: np.ndarray, batch: int) -> Any:
    """Make a validation set of stored features, in their order."""
    return tf.data.Dataset.from_tensor_slices((features, targets)).batch(batch)
