"""Sharper and softer: an image and the local detail that it holds."""

from typing import Any

from biopsy.training.augment.registry import Operation, Share, register
from biopsy.training.tensors.engine import tf


def neighbours(image: Any) -> Any:
    """Return the mean of each pixel's 3 x 3 neighbourhood, borders mirrored; (size, size, 3) to the same."""
    return _around(image) / 9


def _around(image: Any) -> Any:
    """Add up the 3 x 3 neighbourhood: separable, four additions, which beat a convolution of 3 channels."""
    flat = tf.reshape(image, (tf.shape(image)[0], -1))  # long rows, of which larger pieces are copied
    rows = flat + tf.concat([flat[:1], flat[:-1]], 0) + tf.concat([flat[1:], flat[-1:]], 0)
    found = rows + tf.concat([rows[:, :3], rows[:, :-3]], 1) + tf.concat([rows[:, 3:], rows[:, -3:]], 1)
    return tf.ensure_shape(tf.reshape(found, tf.shape(image)), image.shape)


def sharpen(image: Any, factor: Any) -> Any:
    """Blend with a smoothed copy: 0 gives the copy, 1 the image, 2 an image as much sharper.

    The copy is that of Pillow's `ImageEnhance.Sharpness` (kernel of ones, 5 in the middle, over 13), which RandAugment
    and Keras's `RandomSharpness` use too.
    """
    detail = (9 / 13) * (factor - 1)  # of the image less its neighbours
    return tf.clip_by_value((1 + detail) * image - (detail / 9) * _around(image), 0, 255)


def sharpness(image: Any, seed: Any, strength: float) -> Any:
    """Sharpen or soften by a factor of 1 - strength to 1 + strength."""
    return sharpen(image, tf.random.stateless_uniform((), seed, 1 - strength, 1 + strength))


register(Operation("sharpness", Share, sharpness, "Sharpness, relative to 1 (0: smoothed by 3 x 3).", 0.5))
