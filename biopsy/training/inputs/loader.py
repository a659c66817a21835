"""From the resized tree to `tf.data`: uint8 images held once, augmented as they are drawn, in a seeded order."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.sections import Augment, Task
from biopsy.networks.backend import tf
from biopsy.tables.split.parts import ALIGNMENT, read_images
from biopsy.training.augment.mix import mix_batch
from biopsy.training.augment.pipeline import augment_image
from biopsy.training.augment.registry import check_strengths
from biopsy.training.inputs.mapped import create_array


@dataclass(frozen=True)
class ImageStore:
    """Decoded images, in memory or, above the limit, in a memory-mapped file; of tiles, (n, views, size, size, 3)."""

    array: np.ndarray
    in_memory: bool

    def together(self, views: int) -> "ImageStore":
        """Return the same pixels, with `views` tiles after another as one image."""
        return ImageStore(self.array.reshape(-1, views, *self.array.shape[1:]), self.in_memory)

    @classmethod
    def read(cls, files: list[Path], size: int, limit_mb: int, spill: Path, views: int = 1) -> "ImageStore":
        """Decode `files` as `read_images` does; above `limit_mb` MB into the file `spill` instead of memory."""
        shape = (len(files) * views, size, size, 3)
        in_memory = np.prod(shape, dtype=np.int64) <= limit_mb * 1_000_000
        if in_memory:
            return cls(read_images(files, size, views), True)
        spill.parent.mkdir(parents=True, exist_ok=True)
        array = create_array(spill, np.uint8, shape)
        read_images(files, size, views, array)
        array.flush()
        return cls(np.load(spill, mmap_mode="r"), False)

    def getter(self) -> Any:
        """Return a function from a scalar index tensor to one uint8 image tensor of shape (size, size, 3)."""
        if self.in_memory:
            with tf.device("CPU"):  # a GPU would hold all images otherwise
                if self.array.ctypes.data % ALIGNMENT == 0 and self.array.flags.writeable:
                    images = tf.experimental.dlpack.from_dlpack(self.array.__dlpack__())  # the same memory
                else:
                    images = tf.constant(self.array)  # a copy, and for a moment two
            return lambda index: tf.gather(images, index)

        def fetch(index: Any) -> Any:
            image = tf.numpy_function(lambda i: np.array(self.array[i]), [index], tf.uint8, stateful=False)
            return tf.ensure_shape(image, self.array.shape[1:])

        return fetch


def augment_views(image: Any, draw: Any, strengths: Any) -> Any:
    """Augment one square, or each of the tiles (views, size, size, 3) of an image by itself."""
    if len(image.shape) == 3:
        return augment_image(image, draw, strengths)
    seeds = [tf.random.fold_in(draw, view) for view in range(image.shape[0])]
    return tf.stack([augment_image(image[view], seed, strengths) for view, seed in enumerate(seeds)])


@dataclass(frozen=True)
class TrainingItems:
    """What one epoch holds.

    Attributes
    ----------
    index, target, copy
        (n,) an index into the images, the class, and whether this is a minority copy.
    groups
        (n, 2) int, class and case, where each case of a class shall come as often as another; None: each item once.
    """

    index: np.ndarray
    target: np.ndarray
    copy: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)


def training_items(targets: np.ndarray, augment: Augment, task: str, cases: np.ndarray | None = None) -> TrainingItems:
    """List each training image once, and each minority image a second time where the parameters say so.

    The minority is every class but the most frequent one (binary: benign; eight types: all but DC). Copies are made
    here, after the split, from the training part alone: made before it, they leak.

    Parameters
    ----------
    targets
        (n,) int, the training images' classes.
    augment, task
        The section `augment`, and the task whose copies are meant.
    cases
        (n,) the case of each image, where cases are drawn equally often.
    """
    n = len(targets)
    double = augment.double_minority and task in augment.copies
    extra = np.flatnonzero(targets != np.bincount(targets).argmax()) if double else np.array([], int)
    index, copy = np.concatenate([np.arange(n), extra]), np.concatenate([np.zeros(n, bool), np.ones(len(extra), bool)])
    groups = None
    if cases is not None:
        groups = np.stack([targets, np.unique(cases, return_inverse=True)[1]], axis=1)[index]
    return TrainingItems(index, targets[index], copy, groups)


def encode_targets(targets: np.ndarray, classes: int) -> np.ndarray:
    """Turn classes (n,) int into what the loss compares: (n, 1) for two classes, else one-hot (n, classes); float32."""
    return (targets[:, None] if classes == 2 else np.eye(classes)[targets]).astype(np.float32)


def epoch_order(n: int, seed: int, epoch: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the order (n,) in which one epoch goes through its items: each once, or balanced by `groups`.

    Balanced, each class has as many draws as items; its cases have equally many of them (by one more or less), and so
    have the items of a case.
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(n if groups is None else _balanced(groups, rng))


def _balanced(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = []
    for label in np.unique(groups[:, 0]):
        members = np.flatnonzero(groups[:, 0] == label)
        cases = rng.permutation(np.unique(groups[members, 1]))
        each, more = divmod(len(members), len(cases))
        for number, case in enumerate(cases):
            own, wanted = members[groups[members, 1] == case], each + (number < more)
            rounds = math.ceil(wanted / len(own))
            drawn.append(np.concatenate([rng.permutation(own) for _ in range(rounds)])[:wanted])
    return np.concatenate(drawn)


def batches_of(n: int, batch: int) -> int:
    """Count the batches of `n` items; a rest of one item joins the batch before it."""
    return n // batch if _one_left(n, batch) else math.ceil(n / batch)


def _one_left(n: int, batch: int) -> bool:
    return n > batch > 1 and n % batch == 1


def batched(rows: Any, n: int, batch: int, make: Any = None) -> Any:
    """Put rows into batches; a rest of one joins the batch before it, since batch norm makes nothing of one image.

    Parameters
    ----------
    rows
        tf.data.Dataset of n rows.
    n, batch
        Rows in all, and in a batch.
    make
        From one row to what the batches shall hold; None: the row itself.

    Returns
    -------
    tf.data.Dataset
        Of `batches_of(n, batch)` batches.
    """

    def some(part: Any, size: int) -> Any:
        return (part if make is None else part.map(make, tf.data.AUTOTUNE)).batch(size)

    if not _one_left(n, batch):
        return some(rows, batch)
    first = n - batch - 1
    return some(rows.take(first), batch).concatenate(some(rows.skip(first), batch + 1))


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
    n, get = len(items), store.getter()
    in_turn = np.arange(n) if rows is None else rows
    shuffled = shuffled and rows is None
    orders = tf.constant(
        np.stack([epoch_order(n, seed, epoch, items.groups) if shuffled else in_turn for epoch in epochs] or [in_turn]),
        tf.int32,
    )
    index, target, copy = map(tf.constant, (items.index, encode_targets(items.target, classes), items.copy))
    of_all = check_strengths(augment.every, "augment.every")
    of_copies = check_strengths(augment.copies.get(task, {}), f"augment.copies.{task}")

    def example(epoch: Any, item: Any) -> Any:
        image = get(index[item])
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

    def one_epoch(epoch: Any) -> Any:
        order = tf.data.Dataset.from_tensor_slices(orders[epoch - epochs.start])
        batches = batched(order, len(in_turn), batch, lambda item: example(epoch, item))
        if not (augment.mix.mixup or augment.mix.cutmix):
            return batches
        return batches.enumerate().map(lambda number, examples: mixed(epoch, number, examples), tf.data.AUTOTUNE)

    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one_epoch).prefetch(2)


def plain_set(store: ImageStore, targets: np.ndarray, *, classes: int, start: int, batch: int) -> Any:
    """Make a validation set: the images from `start` on in their order, as they are, never augmented."""
    get = store.getter()
    encoded = encode_targets(targets, classes)
    rows = tf.data.Dataset.from_tensor_slices((np.arange(start, start + len(targets)), encoded))
    return rows.map(lambda i, y: (tf.cast(get(i), tf.float32), y), tf.data.AUTOTUNE).batch(batch).prefetch(2)
