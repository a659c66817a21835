"""VGG19 (Simonyan and Zisserman, 2015, arXiv 1409.1556)."""

from biopsy.networks.backbones.applications import builder
from biopsy.networks.backbones.preprocessing import CAFFE_STYLE, caffe_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras

register(
    Backbone(
        "vgg19",
        builder(keras.applications.VGG19, caffe_style),
        "VGG19 (Simonyan and Zisserman, 2015, arXiv 1409.1556).",
        preprocessing=CAFFE_STYLE,
        has_imagenet=True,
    )
)
