"""Brightness, contrast, saturation by a given factor, as Pillow's ImageEnhance has them: what policies draw from."""

from typing import Any

from biopsy.training.tensors.engine import tf


def grey(image: Any) -> Any:
    """Return the luminance (ITU-R 601), (size, size, 3) to (size, size, 1)."""
    red, green, blue = tf.split(image, 3, axis=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def brighten(image: Any, factor: Any) -> Any:
    """Multiply all values."""
    return tf.clip_by_value(image * factor, 0, 255)


def stretch_contrast(image: Any, factor: Any) -> Any:
    """Scale all values about the mean luminance of the image."""
    mean = tf.reduce_mean(grey(image))
    return tf.clip_by_value(mean + (image - mean) * factor, 0, 255)


def saturate(image: Any, factor: Any) -> Any:
    """Scale the distance of each pixel from its own luminance; 0 gives a grey image."""
    own = grey(image)
    return tf.clip_by_value(own + (image - own) * factor, 0, 255)
