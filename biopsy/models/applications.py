"""Backbones of `keras.applications`, each with its own preprocessing inside the model.

One shared `pixels / 255` biases a comparison: DenseNet expects ImageNet's mean and deviation, MobileNetV2 -1 to 1.
"""

from collections.abc import Callable
from typing import Any

from biopsy.backend import keras
from biopsy.models.registry import Backbone, register

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def torch_style(pixels: Any) -> Any:
    """(pixels / 255 - mean) / deviation per channel, as `keras.applications.densenet.preprocess_input`."""
    scale = [1 / (255 * s) for s in IMAGENET_STD]
    offset = [-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="imagenet_mean_std")(pixels)


def tf_style(pixels: Any) -> Any:
    """pixels / 127.5 - 1, as `keras.applications.mobilenet_v2.preprocess_input`."""
    return keras.layers.Rescaling(1 / 127.5, -1, name="minus_one_to_one")(pixels)


def builder(
    application: Callable[..., Any], preprocess: Callable[[Any], Any], cut: str | None = None
) -> Callable[[Any, str | None], Any]:
    """Make a registry `build` from a `keras.applications` function; `cut` names the layer whose output is taken."""

    def build(pixels: Any, weights: str | None) -> Any:
        model = application(include_top=False, weights=weights, input_tensor=preprocess(pixels))
        return model.get_layer(cut).output if cut else model.output

    return build


register(
    Backbone(
        "mobilenetv2",
        builder(keras.applications.MobileNetV2, tf_style),
        "MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381).",
        preprocessing="pixels / 127.5 - 1",
        has_imagenet=True,
    )
)
register(
    Backbone(
        "densenet121",
        builder(keras.applications.DenseNet121, torch_style, cut="conv5_block16_concat"),
        "DenseNet121 (Huang et al., 2017, arXiv 1608.06993), cut after its last block as in the report.",
        preprocessing="(pixels / 255 - mean) / deviation of ImageNet",
        has_imagenet=True,
    )
)
