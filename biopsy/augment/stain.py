"""Stain jitter: more or less haematoxylin and eosin, as slides of other laboratories have it."""

import math
from typing import Any

import numpy as np

from biopsy.augment.registry import Operation, Share, register
from biopsy.backend import tf

# Optical density (red, green, blue) of haematoxylin, eosin and DAB, made unit length below (Ruifrok & Johnston, Anal.
# Quant. Cytol. Histol. 23, 2001). H&E holds no DAB: the third row stands for what the two stains leave unexplained.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
UNMIX = np.linalg.inv(STAINS.astype(np.float64)).astype(np.float32)
LN10 = math.log(10)


def to_stains(image: Any) -> Any:
    """Unmix an image into stains: (size, size, 3), 0 to 255, to amounts (size * size, 3) of H, E and rest.

    Amounts are in base-10 optical density, 0 for white; the darkest value counts as 1/256 of the light.
    """
    density = tf.math.log((tf.reshape(image, (-1, 3)) + 1) / 256) / -LN10
    return tf.matmul(density, UNMIX)


def from_stains(amounts: Any, shape: Any) -> Any:
    """Mix stains into an image of `shape`, 0 to 255: the inverse of `to_stains`."""
    light = 256 * tf.exp(-LN10 * tf.matmul(amounts, STAINS)) - 1
    return tf.clip_by_value(tf.reshape(light, shape), 0, 255)


def stain_jitter(image: Any, seed: Any, strength: float) -> Any:
    """Multiply the amount of each stain by 1 - strength to 1 + strength, and add -strength to strength to it.

    HED jitter (Tellez et al., IEEE TMI 37, 2018), in true optical density: their published code takes the logarithm of
    the value plus two instead, which is not proportional to any amount of dye.
    """
    draw = tf.random.stateless_uniform((2, 3), seed, -strength, strength)
    amounts = to_stains(image)
    return from_stains(amounts * (1 + draw[0]) + draw[1], tf.shape(image))


register(Operation("stain_jitter", Share, stain_jitter, "Amounts of haematoxylin and eosin (Tellez et al., 2018)."))
