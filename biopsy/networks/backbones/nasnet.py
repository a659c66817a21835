"""NASNetMobile (Zoph et al., 2018, arXiv 1707.07012).

Keras's documentation asks for 224 px with ImageNet weights; its code does not, and the weights are of convolutions,
which fit any size.
"""

from biopsy.networks.backbones.applications import builder
from biopsy.networks.backbones.preprocessing import TF_STYLE, tf_style
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras

register(
    Backbone(
        "nasnetmobile",
        builder(keras.applications.NASNetMobile, tf_style),
        "NASNetMobile (Zoph et al., 2018, arXiv 1707.07012).",
        preprocessing=TF_STYLE,
        has_imagenet=True,
    )
)
