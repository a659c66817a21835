"""ResNet50 (He et al., 2016, arXiv 1512.03385) as Keras has it: stride on the first 1x1, blue before red."""

from biopsy.networks.backbones.applications import builder
from biopsy.networks.backbones.preprocessing import CAFFE_STYLE, caffe_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras

register(
    Backbone(
        "resnet50",
        builder(keras.applications.ResNet50, caffe_style),
        "ResNet50 (He et al., 2016, arXiv 1512.03385).",
        preprocessing=CAFFE_STYLE,
        has_imagenet=True,
    )
)
