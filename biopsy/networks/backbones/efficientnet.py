"""EfficientNetB0 (Tan and Le, 2019, arXiv 1905.11946) and EfficientNetV2-S (2021, arXiv 2104.00298).

Both contain their preprocessing. In Keras that of B0 depends on its weights: only with `weights="imagenet"` it divides
a second time, by sqrt(deviation), and without weights it does not normalise. Here it is always the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from biopsy.networks.backbones.applications import as_it_is, builder
from biopsy.networks.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD, TORCH_STYLE
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras


def normalised(build: Callable[[Any, str | None], Any]) -> Callable[[Any, str | None], Any]:
    """Make B0's normalisation ImageNet's, unless Keras has just loaded the one that belongs to its extra division."""

    def build_normalised(pixels: Any, weights: str | None) -> Any:
        features = build(pixels, weights)
        if weights != "imagenet":
            model = keras.Model(pixels, features)
            norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
            norm.set_weights([np.array(IMAGENET_MEAN), np.square(IMAGENET_STD), np.array(0)])
            norm.finalize_state()  # it computes with a copy of its weights
        return features

    return build_normalised


register(
    Backbone(
        "efficientnetb0",
        normalised(builder(keras.applications.EfficientNetB0, as_it_is)),
        "EfficientNetB0 (Tan and Le, 2019, arXiv 1905.11946).",
        preprocessing=TORCH_STYLE,
        has_imagenet=True,
    )
)
register(
    Backbone(
        "efficientnetv2s",
        builder(keras.applications.EfficientNetV2S, as_it_is),
        "EfficientNetV2-S (Tan and Le, 2021, arXiv 2104.00298).",
        preprocessing="pixels / 128 - 1",
        has_imagenet=True,
    )
)
