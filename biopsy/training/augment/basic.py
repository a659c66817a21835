"""Flips, quarter turns and colour jitter of one image."""

from typing import Any

from biopsy.training.augment.registry import Operation, Share, register
from biopsy.training.tensors.engine import tf


def flip(image: Any, seed: Any, strength: bool) -> Any:
    """Mirror left to right, and top to bottom, each in half of the cases."""
    seeds = tf.unstack(tf.random.split(seed, 2))
    image = tf.image.stateless_random_flip_left_right(image, seeds[0])
    return tf.image.stateless_random_flip_up_down(image, seeds[1])


def rot90(image: Any, seed: Any, strength: bool) -> Any:
    """Turn by 0, 90, 180 or 270 degrees."""
    return tf.image.rot90(image, tf.random.stateless_uniform((), seed, 0, 4, tf.int32))


def brightness(image: Any, seed: Any, strength: float) -> Any:
    """Add one number to all values: at most `strength` x 255."""
    return tf.clip_by_value(tf.image.stateless_random_brightness(image, 255 * strength, seed), 0, 255)


def contrast(image: Any, seed: Any, strength: float) -> Any:
    """Scale each channel about its mean by 1 - strength to 1 + strength."""
    return tf.clip_by_value(tf.image.stateless_random_contrast(image, 1 - strength, 1 + strength, seed), 0, 255)


def saturation(image: Any, seed: Any, strength: float) -> Any:
    """Scale the saturation (HSV) by 1 - strength to 1 + strength, at most to 1.

    What each channel lacks of the brightest one grows by the same factor, so no hue is needed; TensorFlow's function
    goes to HSV and back, which takes twice as long.
    """
    factor = tf.random.stateless_uniform((), seed, 1 - strength, 1 + strength)
    red, green, blue = tf.unstack(tf.transpose(tf.reshape(image, (-1, 3))))
    value = tf.maximum(tf.maximum(red, green), blue)
    span = value - tf.minimum(tf.minimum(red, green), blue)
    kept = tf.where(span * factor > value, tf.math.divide_no_nan(value, span), factor)
    changed = tf.transpose(tf.stack([value - (value - channel) * kept for channel in (red, green, blue)]))
    return tf.clip_by_value(tf.ensure_shape(tf.reshape(changed, tf.shape(image)), image.shape), 0, 255)


register(Operation("flip", bool, flip, "Mirrored, left to right and top to bottom.", True, "turn"))
register(Operation("rot90", bool, rot90, "Turned by quarters.", True, "turn"))
register(Operation("brightness", Share, brightness, "Brightness, at most this share of 255 up or down.", 0.1))
register(Operation("contrast", Share, contrast, "Contrast, relative to 1.", 0.1))
register(Operation("saturation", Share, saturation, "Saturation, relative to 1.", 0.1))
