"""MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381)."""

from biopsy.networks.backbones.applications import builder
from biopsy.networks.backbones.preprocessing import TF_STYLE, tf_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras

register(
    Backbone(
        "mobilenetv2",
        builder(keras.applications.MobileNetV2, tf_style),
        "MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381).",
        preprocessing=TF_STYLE,
        has_imagenet=True,
    )
)
