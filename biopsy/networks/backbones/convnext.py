"""ConvNeXt-Tiny (Liu et al., 2022, arXiv 2201.03545), built flat.

`keras.applications.ConvNeXtTiny` nests models in the model, which Grad-CAM cannot follow, has a layer scale that only
Keras's own module can load, and uses grouped instead of depthwise convolutions, which TensorFlow compiles anew on a
CPU. This is the same network of standard layers, with the weights of Keras's, one to one.
"""

from pathlib import Path
from typing import Any

import numpy as np

from biopsy.networks.backbones.preprocessing import TORCH_STYLE, torch_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backbones.weights_file import load_weights_file
from biopsy.networks.backend import keras

DEPTHS, WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)
LAYER_SCALE = 1e-6


def _norm(x: Any, name: str) -> Any:
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _block(x: Any, width: int, name: str) -> Any:
    """Depthwise 7x7, layer norm, four times as wide, GELU, back, times a learnt scale, plus what came in."""
    layers = keras.layers
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    y = _norm(y, f"{name}_norm")
    y = layers.Dense(4 * width, activation="gelu", name=f"{name}_expand")(y)
    y = layers.Dense(width, name=f"{name}_project")(y)
    scale = keras.initializers.Constant(LAYER_SCALE)
    y = layers.EinsumDense("bhwc,c->bhwc", y.shape[1:], kernel_initializer=scale, name=f"{name}_scale")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def _network(pixels: Any) -> Any:
    """(n, s, s, 3) to (n, s/32, s/32, 768)."""
    x = torch_style(pixels)
    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        if stage == 0:
            x = _norm(keras.layers.Conv2D(width, 4, strides=4, name="stem_conv")(x), "stem_norm")
        else:
            x = _norm(x, f"down{stage}_norm")
            x = keras.layers.Conv2D(width, 2, strides=2, name=f"down{stage}_conv")(x)
        for block in range(depth):
            x = _block(x, width, f"stage{stage}_block{block}")
    return _norm(x, "last_norm")


def convnext_tiny(pixels: Any, weights: str | None) -> Any:
    """Draw the network; `weights` is None, 'imagenet' or a file of `keras.applications.ConvNeXtTiny`."""
    features = _network(pixels)
    if weights:
        known = "imagenet" if weights == "imagenet" else None
        source = keras.applications.ConvNeXtTiny(include_top=False, weights=known, input_shape=pixels.shape[1:])
        if not known:
            load_weights_file(source, Path(weights))
        # Keras keeps the preprocessing's mean and deviation as arguments, so the trainable weights are all there are.
        target = keras.Model(pixels, features)
        for new, old in zip(target.trainable_weights, source.trainable_weights, strict=True):
            value = np.asarray(old)
            new.assign(value.transpose(0, 1, 3, 2) if value.shape[:3] == (7, 7, 1) else value)
    return features


register(
    Backbone(
        "convnext_tiny",
        convnext_tiny,
        "ConvNeXt-Tiny (Liu et al., 2022, arXiv 2201.03545), of Keras's layers, flat.",
        preprocessing=TORCH_STYLE,
        has_imagenet=True,
    )
)
