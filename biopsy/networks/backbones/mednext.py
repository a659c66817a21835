"""MedNeXt in two dimensions (Roy et al., 2023, arXiv 2303.09975): the encoder of MedNeXt-S, kernel 3.

The paper's network is a 3-D U-Net for segmentation; a classifier needs its way down alone. Blocks as in section 2.1 and
figure 1 and in the authors' code (MIC-DKFZ/MedNeXt, `dim='2d'`), which also gives the biases, the padding of k // 2
on both sides and the epsilon of 1e-5.
"""

from typing import Any

from biopsy.networks.backbones.preprocessing import UNIT_STYLE, unit_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backbones.weights_file import own_network
from biopsy.networks.backend import keras

WIDTH, BLOCKS, RATIO, KERNEL, STAGES = 32, 2, 2, 3, 5


def block(x: Any, width: int, ratio: int, kernel: int, stride: int, name: str) -> Any:
    """One MedNeXt block; with stride 2 the one that halves the sides.

    Depthwise k x k, group norm of one channel a group, 1x1 to `ratio` times the channels, GELU, 1x1 to `width`, plus
    what came in, which a 1x1 convolution of stride 2 brings to the new shape where the sides are halved.

    Parameters
    ----------
    x
        (n, h, w, c).
    width
        Channels that come out; c where `stride` is 1.
    ratio, kernel
        The paper's R and k.
    stride
        1 or 2.
    name
        The layers' prefix.

    Returns
    -------
    Keras tensor
        (n, ceil(h / stride), ceil(w / stride), width).
    """
    layers, channels = keras.layers, x.shape[-1]
    y = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    y = layers.DepthwiseConv2D(kernel, strides=stride, name=f"{name}_depthwise")(y)
    y = layers.GroupNormalization(channels, epsilon=1e-5, name=f"{name}_norm")(y)
    y = layers.Conv2D(ratio * channels, 1, activation="gelu", name=f"{name}_expand")(y)
    y = layers.Conv2D(width, 1, name=f"{name}_compress")(y)
    if stride > 1:
        x = layers.Conv2D(width, 1, strides=stride, name=f"{name}_shortcut")(x)
    return layers.Add(name=f"{name}_add")([x, y])


@own_network
def mednext(pixels: Any) -> Any:
    """A 1x1 stem, then five stages of two blocks with a halving block between: (n, s, s, 3) to (n, s/16, s/16, 512)."""
    x = keras.layers.Conv2D(WIDTH, 1, name="stem")(unit_style(pixels))
    for stage in range(STAGES):
        width = WIDTH * 2**stage
        if stage:
            x = block(x, width, RATIO, KERNEL, 2, f"down{stage}")
        for number in range(BLOCKS):
            x = block(x, width, RATIO, KERNEL, 1, f"stage{stage}_block{number}")
    return x


register(
    Backbone(
        "mednext",
        mednext,
        "The encoder of MedNeXt-S in 2-D (Roy et al., 2023, arXiv 2303.09975); no pretrained weights exist.",
        preprocessing=UNIT_STYLE,
    )
)
