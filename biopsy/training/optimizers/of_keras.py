"""Keras's own optimisers."""

from functools import partial
from typing import Any

from biopsy.networks.backend import keras
from biopsy.training.optimizers.registry import Optimizer, register


def _adamw(weight_decay: float | None, **kwargs: Any) -> Any:
    """Make AdamW, which wants a number where the others take None."""
    return keras.optimizers.AdamW(weight_decay=weight_decay or 0.0, **kwargs)


register(Optimizer("adam", keras.optimizers.Adam, "Adam (Kingma and Ba, 2015, arXiv 1412.6980)."))
register(Optimizer("adamw", _adamw, "Adam with weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101)."))
register(Optimizer("sgd", partial(keras.optimizers.SGD, momentum=0.9), "Stochastic gradient descent, momentum 0.9."))
register(Optimizer("lion", keras.optimizers.Lion, "Steps of one size, by sign (Chen et al., 2023, arXiv 2302.06675)."))
