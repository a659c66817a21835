"""The backbones by name. Each is registered in the file of its code; `conf/model/` holds its preset."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from biopsy.core.registry import Registry


@dataclass(frozen=True)
class Backbone:
    """One entry of the registry.

    Attributes
    ----------
    name
        What `model.backbone` says.
    build
        `(pixels, weights) -> feature map`: a Keras tensor of shape (batch, size, size, 3), values 0 to 255, to one of
        shape (batch, h, w, channels). The network's own preprocessing is part of it. `weights` is None, 'imagenet' or
        a path.
    description
        One sentence with its source.
    min_size
        The smallest image side in pixels.
    preprocessing
        What happens to the pixels, for the model card.
    has_imagenet
        Whether `model.weights: imagenet` can be had.
    few_pixels
        The pixels of a batch up to which two threads are enough for a step.
    is_file
        Whether the file that `model.weights` names is the network; `build` takes the section `model.encoder` too.
    """

    name: str
    build: Callable[..., Any]
    description: str
    min_size: int = 32
    preprocessing: str = "pixels / 255"
    has_imagenet: bool = False
    few_pixels: int = 0
    is_file: bool = False


BACKBONES = Registry[Backbone]("backbone", "model.backbone")
register, find = BACKBONES.add, BACKBONES.find
