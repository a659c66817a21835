"""A hybrid of convolutions and a transformer: convolutions see texture, attention sees the whole field.

Convolutional stages in the place of ViT's patches (Xiao et al., 2021, arXiv 2106.14881), encoder blocks as in ViT
(Dosovitskiy et al., 2021, arXiv 2010.11929, section 3.1), and a position encoding that a depthwise convolution makes of
the tokens after the first block (Chu et al., 2023, arXiv 2102.10882): zeros beyond the border tell a token where it is,
at any image size, and all layers are Keras's own.
"""

from typing import Any

from biopsy.networks.backbones.preprocessing import UNIT_STYLE, unit_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backbones.weights_file import own_network
from biopsy.networks.backend import keras

WIDTHS = (32, 64, 128, 192)  # of the stages; the last is the width of the tokens
BLOCKS, HEADS, MLP_RATIO = 4, 3, 4


def stage(x: Any, width: int, name: str) -> Any:
    """Two 3x3 convolutions with batch norm and ReLU, the first with stride 2: half the sides, `width` channels."""
    layers = keras.layers
    for number, stride in enumerate((2, 1), start=1):
        x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn{number}")(x)
        x = layers.ReLU(name=f"{name}_relu{number}")(x)
    return x


def encoder(tokens: Any, name: str) -> Any:
    """One transformer encoder block on (n, t, d): x + attention(norm(x)), then x + MLP(norm(x)), GELU within."""
    layers, width = keras.layers, tokens.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(tokens)
    y = layers.MultiHeadAttention(HEADS, width // HEADS, name=f"{name}_attention")(y, y)
    tokens = layers.Add(name=f"{name}_add1")([tokens, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(tokens)
    y = layers.Dense(MLP_RATIO * width, activation="gelu", name=f"{name}_mlp1")(y)
    y = layers.Dense(width, name=f"{name}_mlp2")(y)
    return layers.Add(name=f"{name}_add2")([tokens, y])


@own_network
def hybrid(pixels: Any) -> Any:
    """(n, s, s, 3) to (n, s/16, s/16, 192); at 256 px attention runs among 16 x 16 tokens."""
    layers = keras.layers
    x = unit_style(pixels)
    for number, width in enumerate(WIDTHS, start=1):
        x = stage(x, width, f"stage{number}")
    height, width, channels = x.shape[1:]
    for number in range(1, BLOCKS + 1):
        tokens = encoder(layers.Reshape((height * width, channels), name=f"tokens{number}")(x), f"encoder{number}")
        x = layers.Reshape((height, width, channels), name=f"map{number}")(tokens)
        if number == 1:
            position = layers.DepthwiseConv2D(3, padding="same", name="position")(x)
            x = layers.Add(name="position_add")([x, position])
    return layers.LayerNormalization(epsilon=1e-6, name="last_norm")(x)


register(
    Backbone(
        "hybrid",
        hybrid,
        "Four convolutional stages, then four transformer encoder blocks; no pretrained weights exist.",
        preprocessing=UNIT_STYLE,
    )
)
