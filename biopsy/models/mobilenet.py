"""MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381)."""

from biopsy.backend import keras
from biopsy.models.applications import builder
from biopsy.models.preprocessing import TF_STYLE, tf_style
from biopsy.models.registry import Backbone, register

register(
    Backbone(
        "mobilenetv2",
        builder(keras.applications.MobileNetV2, tf_style),
        "MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381).",
        preprocessing=TF_STYLE,
        has_imagenet=True,
    )
)
