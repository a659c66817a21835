"""Rotation, shear, scale and shift of one image about its centre, in one interpolation.

What a warp uncovers is filled by mirroring the image at its border. Black corners, the usual choice, exist on no slide
and tell a network which images were turned; white ones look like glass, which says something about the tissue.
"""

import math
from typing import Any

from biopsy.training.tensors.engine import tf


def warp(image: Any, matrix: Any, shift: Any = (0.0, 0.0)) -> Any:
    """Move pixels: the output at p shows the input at matrix (p - centre) + centre + shift.

    Parameters
    ----------
    image
        (size, size, 3), float32.
    matrix
        ((a, b), (c, d)) on (x, y), numbers or scalar tensors.
    shift
        (x, y) in pixels.

    Returns
    -------
    tf.Tensor
        As `image`; bilinear, mirrored at the borders.
    """
    (a, b), (c, d) = matrix
    side = tf.shape(image)[0]
    centre = (tf.cast(side, tf.float32) - 1) / 2
    x = centre - (a + b) * centre + shift[0]
    y = centre - (c + d) * centre + shift[1]
    row = tf.stack([tf.cast(value, tf.float32) for value in (a, b, x, c, d, y, 0.0, 0.0)])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=row[None],
        output_shape=tf.stack([side, side]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    return tf.ensure_shape(moved[0], image.shape)


def rotate(image: Any, degrees: Any) -> Any:
    """Turn about the centre; a positive angle turns what is seen counter-clockwise."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return warp(image, ((cos, -sin), (sin, cos)))


def shear_x(image: Any, slope: Any) -> Any:
    """Slant along x: a row moves by `slope` times its distance from the centre."""
    return warp(image, ((1.0, slope), (0.0, 1.0)))


def shear_y(image: Any, slope: Any) -> Any:
    """Slant along y."""
    return warp(image, ((1.0, 0.0), (slope, 1.0)))


def scale(image: Any, factor: Any) -> Any:
    """Enlarge (above 1) or shrink (below 1) about the centre."""
    return warp(image, ((1 / factor, 0.0), (0.0, 1 / factor)))


def translate_x(image: Any, share: Any) -> Any:
    """Move by a share of the side, to the right where it is positive."""
    return warp(image, ((1.0, 0.0), (0.0, 1.0)), (-share * tf.cast(tf.shape(image)[1], tf.float32), 0.0))


def translate_y(image: Any, share: Any) -> Any:
    """Move by a share of the side, downwards where it is positive."""
    return warp(image, ((1.0, 0.0), (0.0, 1.0)), (0.0, -share * tf.cast(tf.shape(image)[0], tf.float32)))
