"""Apply what `augment` names to one image: stateless, so one seed gives the same pixels."""

import zlib
from collections.abc import Mapping
from typing import Any

from biopsy.core.sections.train import Augment
from biopsy.training.augment.registry import OPERATIONS, check_strengths
from biopsy.training.tensors.engine import tf


def check_augment(augment: Augment) -> None:
    """Check all names and strengths of the section `augment`, before any work. Raises `ParamsError`."""
    check_strengths(augment.every, "augment.every")
    for task, strengths in augment.copies.items():
        check_strengths(strengths, f"augment.copies.{task}")


def augment_image(image: Any, seed: Any, strengths: Mapping[str, Any]) -> Any:
    """Change one image at random.

    Parameters
    ----------
    image
        (size, size, 3), uint8 or float, values 0 to 255.
    seed
        Two integers; equal seeds give equal results.
    strengths
        As `check_strengths` returns them. Each operation draws from a seed of its own name, so adding one does not
        change what the others draw.

    Returns
    -------
    tf.Tensor
        (size, size, 3), float32, values 0 to 255.
    """
    for name, strength in strengths.items():
        drawn = tf.random.fold_in(seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)
        operation = OPERATIONS[name]
        if operation.kind != "turn":  # turns come first, and move uint8 in a third of the time
            image = tf.cast(image, tf.float32)
        image = operation.apply(image, drawn, strength)
    return tf.cast(image, tf.float32)


def augment_views(image: Any, draw: Any, strengths: Any) -> Any:
    """Augment one square, or each of the tiles (views, size, size, 3) of an image by itself."""
    if len(image.shape) == 3:
        return augment_image(image, draw, strengths)
    seeds = [tf.random.fold_in(draw, view) for view in range(image.shape[0])]
    return tf.stack([augment_image(image[view], seed, strengths) for view, seed in enumerate(seeds)])
