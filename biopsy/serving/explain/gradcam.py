"""Grad-CAM (Selvaraju et al., 2017, arXiv 1610.02391) of a model's folder: any backbone, any head of ours, any engine.

The maps are those that the head pools. What follows them is cut off as a network of its own, so that the slope at one
of several layers holds no way through another.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.networks.backend import keras


def pooled_maps(network: Any) -> list[Any]:
    """Find the feature maps that the head of a network pools.

    Parameters
    ----------
    network
        A Keras model, as `build_model` makes it.

    Returns
    -------
    list of keras.KerasTensor
        (n, h, w, channels) each; empty if nothing with several places is pooled, as with an encoder that gives vectors.
    """
    made = {id(operation.output): operation for operation in network.operations}
    found: dict[int, Any] = {}
    waiting = [layer.output for layer in network.layers if layer.name == "head_pool"]
    while waiting:
        tensor = waiting.pop(0)
        if len(tensor.shape) == 4:
            found[id(tensor)] = tensor
        elif operation := made.get(id(tensor)):
            taken = operation.input
            waiting += taken if isinstance(taken, list) else [taken]
    return [tensor for tensor in found.values() if tensor.shape[1] * tensor.shape[2] > 1]


def output_of(network: Any, index: int) -> tuple[int, int]:
    """Return the sign and the column of a class in a network's output: two classes have one output, the second's."""
    return (2 * index - 1, 0) if network.output_shape[-1] == 1 else (1, index)


def gradcam(network: Any, views: NDArray[np.uint8], index: int) -> NDArray[np.float64]:
    """Say what each place of an image speaks for.

    Parameters
    ----------
    network
        One with `pooled_maps`.
    views
        (views, size, size, 3), as `prepare` gives them.
    index
        Of the class; with two classes, the logit of the first is the negative of the other's.

    Returns
    -------
    numpy.ndarray
        (views, h, w) float64: for each channel its mean slope of the class's logit times its value here, times the
        number of places, so that the mean over them is the change of the logit along the slope. The paper's ReLU is
        left out: it would hide what speaks against the class, and the whole map where the rest is a large bias. Of
        several layers the sum.
    """
    last, pixels = network.get_layer("probabilities"), views.astype(np.float32)
    together = len(network.inputs[0].shape) == 5
    body, head = _cut(network)
    seen = body(pixels[None] if together else pixels, training=False)
    seen = list(seen) if isinstance(seen, list | tuple) else [seen]
    sign, column = output_of(network, index)

    def score(given: list[Any]) -> Any:
        features = keras.ops.cast(head(given, training=False), "float32")
        return sign * keras.ops.sum(keras.ops.matmul(features, last.kernel[:, column : column + 1]))

    found = []
    for values, slopes in zip(seen, _slopes(score, seen), strict=True):
        value, slope = (keras.ops.convert_to_numpy(x).astype(np.float64) for x in (values, slopes))
        cam = (value * slope.sum((1, 2), keepdims=True)).sum(-1)
        found.append(cam.reshape(len(views), -1, cam.shape[-1]))  # the maps of tiles seen together lie in one
    height, width = max(cam.shape[1:] for cam in found)
    return np.stack(
        [
            sum(cv2.resize(cam[i], (width, height), interpolation=cv2.INTER_NEAREST) for cam in found)
            for i in range(len(views))
        ]
    )


@lru_cache(maxsize=1)  # each cut leaves nodes in the layers
def _cut(network: Any) -> tuple[Any, Any]:
    """Cut a network at its pooled maps: from pixels to them, and from them to what the last layer takes."""
    maps = pooled_maps(network)
    return keras.Model(network.inputs[0], maps), keras.Model(maps, network.get_layer("probabilities").input)


def _slopes(score: Callable[[list[Any]], Any], values: list[Any]) -> list[Any]:
    """Differentiate a number by each of the tensors that it is made of, with what Keras runs on."""
    engine = keras.backend.backend()
    if engine == "jax":
        import jax

        return list(jax.grad(score)(values))
    if engine == "torch":
        import torch

        values = [value.detach().requires_grad_() for value in values]
        return [slope.detach() for slope in torch.autograd.grad(score(values), values)]
    from biopsy.networks.backend import tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        total = score(values)
    return list(tape.gradient(total, values))
