"""Flips, quarter turns and colour jitter of one image, for `tf.data`: stateless, so one seed gives the same pixels."""

from typing import Any

from biopsy.backend import tf
from biopsy.params import Jitters


def jitter(image: Any, seed: Any, strength: Jitters) -> Any:
    """Change one image at random.

    Parameters
    ----------
    image
        (size, size, 3), uint8 or float, values 0 to 255.
    seed
        Two integers; equal seeds give equal results.
    strength
        Which changes; brightness is a share of 255, contrast and saturation are relative to 1.

    Returns
    -------
    tf.Tensor
        (size, size, 3), float32, values 0 to 255.
    """
    seeds = tf.unstack(tf.random.split(seed, 6))
    if strength.flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[0])
        image = tf.image.stateless_random_flip_up_down(image, seeds[1])
    if strength.rot90:
        image = tf.image.rot90(image, tf.random.stateless_uniform((), seeds[2], 0, 4, tf.int32))
    image = tf.cast(image, tf.float32)
    if strength.brightness:
        image = tf.image.stateless_random_brightness(image, 255 * strength.brightness, seeds[3])
    if strength.contrast:
        image = tf.image.stateless_random_contrast(image, 1 - strength.contrast, 1 + strength.contrast, seeds[4])
    if strength.saturation:
        image = tf.clip_by_value(image, 0, 255)  # saturation goes through HSV, which needs the range
        image = tf.image.stateless_random_saturation(image, 1 - strength.saturation, 1 + strength.saturation, seeds[5])
    return tf.clip_by_value(image, 0, 255)
