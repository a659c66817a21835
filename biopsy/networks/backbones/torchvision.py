"""ResNet34, ResNet50 and MobileNetV2 as in torchvision, for weights that come from PyTorch.

Keras's ResNet50 has its stride elsewhere. Its MobileNetV2 pads on one side, and a quarter of the variances lie below
its batch-norm epsilon of 1e-3. So PyTorch's weights give other features there. These networks equal torchvision's up to
rounding: explicit padding on both sides, epsilon 1e-5, their own preprocessing. Layers have the names of torchvision's
modules. `biopsy convert-weights` makes their weights files; Keras's own DenseNet121 already fits.
"""

from collections.abc import Callable
from typing import Any

from biopsy.networks.backbones.preprocessing import TORCH_STYLE, UNIT_STYLE, torch_style, unit_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backbones.weights_file import own_network
from biopsy.networks.backend import keras

EPSILON = 1e-5


def conv(x: Any, width: int, kernel: int, stride: int, name: str) -> Any:
    """Convolve without bias, zeros of kernel // 2 on all sides."""
    if kernel > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}.pad")(x)
    return keras.layers.Conv2D(width, kernel, strides=stride, use_bias=False, name=name)(x)


def norm(x: Any, name: str) -> Any:
    """PyTorch's batch norm: epsilon 1e-5, and 0.1 of each batch in the moving figures."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=name)(x)


def relu(x: Any, name: str, most: float | None = None) -> Any:
    """Cut off below 0, and above `most`."""
    return keras.layers.ReLU(most, name=name)(x)


def basic_block(x: Any, width: int, stride: int, name: str) -> Any:
    """Two 3x3 convolutions and a shortcut."""
    y = relu(norm(conv(x, width, 3, stride, f"{name}.conv1"), f"{name}.bn1"), f"{name}.relu1")
    y = norm(conv(y, width, 3, 1, f"{name}.conv2"), f"{name}.bn2")
    return _join(x, y, stride, name)


def bottleneck(x: Any, width: int, stride: int, name: str) -> Any:
    """1x1, 3x3 (which has the stride), 1x1 to four times the width, and a shortcut."""
    y = relu(norm(conv(x, width, 1, 1, f"{name}.conv1"), f"{name}.bn1"), f"{name}.relu1")
    y = relu(norm(conv(y, width, 3, stride, f"{name}.conv2"), f"{name}.bn2"), f"{name}.relu2")
    y = norm(conv(y, 4 * width, 1, 1, f"{name}.conv3"), f"{name}.bn3")
    return _join(x, y, stride, name)


def _join(x: Any, y: Any, stride: int, name: str) -> Any:
    """Add the shortcut, brought to the same shape where it has another."""
    if stride > 1 or x.shape[-1] != y.shape[-1]:
        x = conv(x, y.shape[-1], 1, stride, f"{name}.downsample.0")
        x = norm(x, f"{name}.downsample.1")
    return relu(keras.layers.Add(name=f"{name}.add")([x, y]), f"{name}.relu")


def resnet(
    block: Callable[..., Any],
    depths: tuple[int, ...],
    preprocess: Callable[[Any], Any] = torch_style,
    stem_stride: int = 2,
) -> Callable[[Any], Any]:
    """Make the function that draws a ResNet: stem, max-pool, four stages of `depths` blocks."""

    def network(pixels: Any) -> Any:
        x = conv(preprocess(pixels), 64, 7, stem_stride, "conv1")
        x = relu(norm(x, "bn1"), "relu")
        x = keras.layers.ZeroPadding2D(1, name="maxpool.pad")(x)  # zeros pad like -inf: nothing is below 0 here
        x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
        for stage, depth in enumerate(depths, start=1):
            for number in range(depth):
                stride = 2 if stage > 1 and number == 0 else 1
                x = block(x, 32 * 2**stage, stride, f"layer{stage}.{number}")
        return x

    return network


# Expansion, channels, repeats, first stride: table 2 of arXiv 1801.04381.
MOBILENET_ROWS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def mobilenet_v2(pixels: Any) -> Any:
    """(n, s, s, 3) to (n, s/32, s/32, 1280)."""
    x = _conv_norm_relu6(torch_style(pixels), 32, 3, 2, "features.0")
    number = 0
    for expansion, width, repeats, first_stride in MOBILENET_ROWS:
        for repeat in range(repeats):
            number += 1
            x = _inverted_residual(x, width, expansion, first_stride if repeat == 0 else 1, f"features.{number}")
    return _conv_norm_relu6(x, 1280, 1, 1, f"features.{number + 1}")


def _conv_norm_relu6(x: Any, width: int, kernel: int, stride: int, name: str) -> Any:
    return relu(norm(conv(x, width, kernel, stride, f"{name}.0"), f"{name}.1"), f"{name}.2", 6)


def _inverted_residual(x: Any, width: int, expansion: int, stride: int, name: str) -> Any:
    """1x1 to more channels, depthwise 3x3, 1x1 to fewer without activation, plus what came in where the shape is."""
    y, part = x, 0
    if expansion > 1:
        y = _conv_norm_relu6(y, expansion * x.shape[-1], 1, 1, f"{name}.conv.0")
        part = 1
    depthwise = f"{name}.conv.{part}"
    y = keras.layers.ZeroPadding2D(1, name=f"{depthwise}.pad")(y)
    y = keras.layers.DepthwiseConv2D(3, strides=stride, use_bias=False, name=f"{depthwise}.0")(y)
    y = relu(norm(y, f"{depthwise}.1"), f"{depthwise}.2", 6)
    y = norm(conv(y, width, 1, 1, f"{name}.conv.{part + 1}"), f"{name}.conv.{part + 2}")
    return keras.layers.Add(name=f"{name}.add")([x, y]) if x.shape == y.shape else y


def _entry(name: str, network: Callable[[Any], Any], what: str, pixels: str = TORCH_STYLE) -> Backbone:
    return Backbone(
        name,
        own_network(network),
        f"{what}, as PyTorch computes it; weights by `biopsy convert-weights`.",
        preprocessing=pixels,
    )


register(_entry("resnet34", resnet(basic_block, (3, 4, 6, 3)), "ResNet34 (He et al., 2016, arXiv 1512.03385)"))
register(_entry("torch_resnet50", resnet(bottleneck, (3, 4, 6, 3)), "ResNet50 with the stride on the 3x3 (v1.5)"))
register(_entry("torch_mobilenetv2", mobilenet_v2, "MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381)"))
register(
    _entry(
        "cerberus",
        resnet(basic_block, (3, 4, 6, 3), unit_style, stem_stride=1),
        "The encoder of CERBERUS (Graham et al., 2022, arXiv 2203.00077): ResNet34 whose stem keeps the sides",
        UNIT_STYLE,
    )
)
