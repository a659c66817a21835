"""Apply what `augment` names to one image, for `tf.data`: stateless, so one seed gives the same pixels."""

import zlib
from collections.abc import Mapping
from typing import Any

from biopsy.augment import basic  # noqa: F401  (it registers its operations)
from biopsy.augment.registry import OPERATIONS
from biopsy.backend import tf


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
    image = tf.cast(image, tf.float32)
    for name, strength in strengths.items():
        drawn = tf.random.fold_in(seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)
        image = OPERATIONS[name].apply(image, drawn, strength)
    return image
