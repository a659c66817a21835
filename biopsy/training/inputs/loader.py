"""The prepared images, as uint8, and which of them an epoch shows, and in which order."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from biopsy.core.errors import warn
from biopsy.core.sections.train import Augment
from biopsy.tables.split.parts import CHUNK


@dataclass(frozen=True)
class ImageStore:
    """Images by number: some rows of an array that may hold more of them, such as the map of `decode_once`.

    Attributes
    ----------
    array
        (m, size, size, 3) uint8, or of images with their tiles (m, views, size, size, 3).
    rows
        (n,) int, where each image lies in it.
    """

    array: np.ndarray
    rows: np.ndarray

    @classmethod
    def whole(cls, array: np.ndarray) -> "ImageStore":
        """Hold all of an array, in its order."""
        return cls(array, np.arange(len(array)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        """Return one image, or of a slice or of several numbers a copy, (k, ...)."""
        found: np.ndarray = self.array[self.rows[which]]
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array of its images."""
        return (len(self.rows), *self.array.shape[1:])

    def part(self, which: slice) -> "ImageStore":
        """Return some of the images, without a copy."""
        return ImageStore(self.array, self.rows[which])

    def tiles(self) -> "ImageStore":
        """Return each tile as an image of its own: those of the first image, then those of the second, and so on."""
        views = self.array.shape[1]
        rows = self.rows[:, None] * views + np.arange(views)
        return ImageStore(self.array.reshape(-1, *self.array.shape[2:]), rows.ravel())

    def sha256(self) -> str:
        """Return the hash of all pixels, as `hash_images` does."""
        digest = hashlib.sha256()
        for start in range(0, len(self), CHUNK):
            digest.update(self[start : start + CHUNK].data)
        return digest.hexdigest()


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


def check_copies(augment: Augment, task: str) -> None:
    """Warn where images are to be doubled, and nothing says how those of this task are changed."""
    if augment.double_minority and task not in augment.copies:
        warn(
            f"augment.double_minority is on, but augment.copies has no '{task}', so no image of this task is doubled. "
            f"Set -S '+augment.copies.{task}={{flip: true}}', or augment.double_minority=false."
        )


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


def cuts(n: int, batch: int) -> np.ndarray:
    """Return where the batches of n items begin, and n: (`batches_of(n, batch)` + 1,) int."""
    return np.append(np.arange(batches_of(n, batch)) * batch, n)
