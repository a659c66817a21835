"""A small convolutional network, trained from nothing."""

from typing import Any

from biopsy.networks.backbones.preprocessing import unit_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backbones.weights_file import own_network
from biopsy.networks.backend import keras

WIDTHS = (16, 32, 48, 64, 96)
FEWER = (16, 32, 64, 96)
FEW_PIXELS = 32 * 96**2  # a step of 50 ms on one core


def _blocks(pixels: Any, widths: tuple[int, ...]) -> Any:
    """Blocks of convolution, batch norm, ReLU and max-pool; the first convolution has a stride of 2."""
    x = unit_style(pixels)
    for block, width in enumerate(widths, start=1):
        kernel, stride = (5, 2) if block == 1 else (3, 1)
        x = keras.layers.Conv2D(
            width, kernel, strides=stride, padding="same", use_bias=False, name=f"block{block}_conv"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        x = keras.layers.MaxPooling2D(padding="same", name=f"block{block}_pool")(x)
    return x


@own_network
def cnn(pixels: Any) -> Any:
    """Five blocks: (n, s, s, 3) to (n, s/64, s/64, 96)."""
    return _blocks(pixels, WIDTHS)


@own_network
def cnn_small(pixels: Any) -> Any:
    """Four blocks: (n, s, s, 3) to (n, s/32, s/32, 96)."""
    return _blocks(pixels, FEWER)


register(
    Backbone(
        "cnn",
        cnn,
        "Five plain convolution blocks, about 100,000 weights; no pretrained weights exist.",
        few_pixels=FEW_PIXELS,
    )
)
register(
    Backbone(
        "cnn_small",
        cnn_small,
        "Four such blocks, about 80,000 weights, for small images of few classes.",
        few_pixels=FEW_PIXELS,
    )
)
