"""A network whose weights are set by hand, so that it is known where it looks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.networks.backend import keras
from tiny_onnx import SIZE


def colours() -> tuple[Any, NDArray[np.uint8]]:
    """A network that takes red for the second class and green for the first, and an image with each colour."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(3, 4, strides=4, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid", name="probabilities")(x))
    kernel = np.full((4, 4, 3, 3), -1 / 16, np.float32)  # each channel: a colour, less the other two
    kernel[..., range(3), range(3)] = 1 / 16
    model.get_layer("conv").set_weights([kernel, np.zeros(3, np.float32)])
    model.get_layer("probabilities").set_weights([np.array([[40.0], [-40.0], [0.0]]), np.array([0.5])])
    image = np.full((1, SIZE, SIZE, 3), 120, np.uint8)
    for channel, (top, left) in enumerate([(4, 4), (4, 20), (20, 4)]):
        image[0, top : top + 8, left : left + 8] = np.where(np.arange(3) == channel, 250 - 40 * channel, 20)
    return model, image
