"""How a network of `keras.applications` becomes a backbone of the registry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from biopsy.networks.backbones.weights_file import load_weights_file


def builder(
    application: Callable[..., Any], preprocess: Callable[[Any], Any], cut: str | None = None
) -> Callable[[Any, str | None], Any]:
    """Make a registry `build` from a `keras.applications` function.

    Parameters
    ----------
    application
        Such as `keras.applications.DenseNet121`.
    preprocess
        A function of `biopsy.networks.backbones.preprocessing`, or one that leaves it to the network.
    cut
        The name of the layer whose output is taken; None takes the last.
    """

    def build(pixels: Any, weights: str | None) -> Any:
        known = "imagenet" if weights == "imagenet" else None
        model = application(include_top=False, weights=known, input_tensor=preprocess(pixels))
        if weights and not known:
            load_weights_file(model, Path(weights))
        return model.get_layer(cut).output if cut else model.output

    return build


def as_it_is(pixels: Any) -> Any:
    """Leave the pixels to the network, which brings its own preprocessing."""
    return pixels
