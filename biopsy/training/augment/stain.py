"""Stain jitter: more or less haematoxylin and eosin, as slides of other laboratories have it."""

import math
from typing import Any

import numpy as np

from biopsy.training.augment.registry import Operation, Share, register
from biopsy.training.tensors.engine import tf

# Optical density (red, green, blue) of haematoxylin, eosin and DAB, made unit length below (Ruifrok & Johnston, Anal.
# Quant. Cytol. Histol. 23, 2001). H&E holds no DAB: the third row stands for what the two stains leave unexplained.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
UNMIX = np.linalg.inv(STAINS.astype(np.float64)).astype(np.float32)
LN10 = math.log(10)
# Density of a pixel's darkest colour up to which it is glass, to which nothing is added, and from which on all is. The
# glass of BreakHis's images, tinted by their white balance, lies below the first. The way between them is long enough
# for pale tissue to stay darker than glass where stain is taken away.
GLASS, TISSUE = 0.1, 0.4


def density_of(image: Any) -> Any:
    """Return the optical density, base 10, 0 for white: (size, size, 3), 0 to 255, to (size * size, 3).

    The darkest value counts as 1/256 of the light.
    """
    return tf.math.log((tf.reshape(image, (-1, 3)) + 1) / 256) / -LN10


def image_of(density: Any, shape: Any) -> Any:
    """Return the image of `shape`, 0 to 255, that has a density: the inverse of `density_of`."""
    return tf.clip_by_value(tf.reshape(256 * tf.exp(-LN10 * density) - 1, shape), 0, 255)


def stain_jitter(image: Any, seed: Any, strength: float) -> Any:
    """Multiply the amounts of haematoxylin and eosin by 1 - strength to 1 + strength, and add -strength to strength.

    HED jitter (Tellez et al., IEEE TMI 37, 2018), with three differences, each made after a look at what comes out:
    densities are true ones (their published code takes the logarithm of the value plus two, which is proportional to no
    amount of dye); what neither stain explains stays as it is, for H&E has no third dye; and nothing is added to glass,
    which would turn it green or pink.
    """
    draw = tf.random.stateless_uniform((2, 2), seed, -strength, strength)
    factors, added = tf.pad(draw[0], [[0, 1]]), tf.pad(draw[1], [[0, 1]])
    density = density_of(image)
    darkest = tf.reduce_max(density, axis=1, keepdims=True)
    tissue = tf.clip_by_value((darkest - GLASS) / (TISSUE - GLASS), 0, 1)
    # Unmixed, changed and mixed again in one product: density + unmix(density) * factors @ STAINS, and what is added.
    scaled = tf.matmul(density, tf.eye(3) + tf.matmul(UNMIX * factors, STAINS))
    return image_of(scaled + tissue * tf.linalg.matvec(STAINS, added, transpose_a=True), tf.shape(image))


register(
    Operation("stain_jitter", Share, stain_jitter, "Amounts of haematoxylin and eosin (Tellez et al., 2018).", 0.05)
)
