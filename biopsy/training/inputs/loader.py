"""Load the prepared images once, as uint8, and decide which of them an epoch shows, and in which order."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biopsy.core.errors import warn
from biopsy.core.sections.train import Augment
from biopsy.tables.split.parts import read_images
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
