"""NASNetMobile (Zoph et al., 2018, arXiv 1707.07012).

Keras's documentation asks for 224 px with ImageNet weights; its code does not, and the weights are of convolutions,
which fit any size.
"""

from biopsy.backend import keras
from biopsy.models.applications import builder
from biopsy.models.preprocessing import TF_STYLE, tf_style
from biopsy.models.registry import Backbone, register

register(
    Backbone(
        "nasnetmobile",
        builder(keras.applications.NASNetMobile, tf_style),
        "NASNetMobile (Zoph et al., 2018, arXiv 1707.07012).",
        preprocessing=TF_STYLE,
        has_imagenet=True,
    )
)
