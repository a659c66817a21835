"""DenseNet121 (Huang et al., 2017, arXiv 1608.06993), the report's network."""

from biopsy.backend import keras
from biopsy.models.applications import builder
from biopsy.models.preprocessing import TORCH_STYLE, torch_style
from biopsy.models.registry import Backbone, register

register(
    Backbone(
        "densenet121",
        builder(keras.applications.DenseNet121, torch_style, cut="conv5_block16_concat"),
        "DenseNet121 (Huang et al., 2017, arXiv 1608.06993), cut after its last block as in the report.",
        preprocessing=TORCH_STYLE,
        has_imagenet=True,
    )
)
