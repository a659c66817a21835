"""VGG19 (Simonyan and Zisserman, 2015, arXiv 1409.1556)."""

from biopsy.backend import keras
from biopsy.models.applications import builder
from biopsy.models.preprocessing import CAFFE_STYLE, caffe_style
from biopsy.models.registry import Backbone, register

register(
    Backbone(
        "vgg19",
        builder(keras.applications.VGG19, caffe_style),
        "VGG19 (Simonyan and Zisserman, 2015, arXiv 1409.1556).",
        preprocessing=CAFFE_STYLE,
        has_imagenet=True,
    )
)
