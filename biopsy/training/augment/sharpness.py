"""Sharper and softer: an image and the local detail that it holds."""

from typing import Any

from biopsy.training.augment.registry import Operation, Share, register
from biopsy.training.tensors.engine import tf


def neighbours(image: Any) -> Any:
    """Return the mean of each pixel's 3 x 3 neighbourhood, borders mirrored; (size, size, 3) to the same."""
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    rows = padded[:-2] + padded[1:-1] + padded[2:]  # separable: four additions, which beat a convolution of 3 channels
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def sharpen(image: Any, factor: Any) -> Any:
    """Blend with a smoothed copy: 0 gives the copy, 1 the image, 2 an image as much sharper.

    The copy is that of Pillow's `ImageEnhance.Sharpness` (kernel of ones, 5 in the middle, over 13), which RandAugment
    and Keras's `RandomSharpness` use too.
    """
    detail = (9 / 13) * (image - neighbours(image))
    return tf.clip_by_value(image + (factor - 1) * detail, 0, 255)


def sharpness(image: Any, seed: Any, strength: float) -> Any:
    """Sharpen or soften by a factor of 1 - strength to 1 + strength."""
    return sharpen(image, tf.random.stateless_uniform((), seed, 1 - strength, 1 + strength))


register(Operation("sharpness", Share, sharpness, "Sharpness, relative to 1 (0: smoothed by 3 x 3).", 0.5))
