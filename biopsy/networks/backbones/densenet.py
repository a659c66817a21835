"""DenseNet121 (Huang et al., 2017, arXiv 1608.06993), the report's network."""

from biopsy.networks.backbones.applications import builder
from biopsy.networks.backbones.preprocessing import TORCH_STYLE, torch_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras

register(
    Backbone(
        "densenet121",
        builder(keras.applications.DenseNet121, torch_style, cut="conv5_block16_concat"),
        "DenseNet121 (Huang et al., 2017, arXiv 1608.06993), cut after its last block as in the report.",
        preprocessing=TORCH_STYLE,
        has_imagenet=True,
    )
)
