"""Class-activation maps in closed form, of heads that see the means of feature maps: no gradient is asked for.

A logit's slope at the pooled features is known layer by layer; the map is that slope times the feature map (Zhou et
al., 2016, arXiv 1512.04150, for linear heads; Grad-CAM, arXiv 1610.02391, for others, without its ReLU).
"""

from typing import Any

import numpy as np

from biopsy.networks.backend import keras, tf


def head_of(model: Any) -> tuple[list[Any], list[Any]] | None:
    """Find the layers behind the pool, from the first to the output, and the feature maps before it.

    Parameters
    ----------
    model
        A Keras model.

    Returns
    -------
    list of keras.layers.Layer, list of keras.KerasTensor
        None where the head is of another kind: no means of feature maps of several places, maps whose sides are no
        multiples of the smaller ones', or a layer whose slope is not known.
    """
    layers, made = keras.layers, {id(layer.output): layer for layer in model.layers if len(layer._inbound_nodes) == 1}
    found: list[Any] = []
    tensor = model.outputs[0]
    while (layer := made.get(id(tensor))) is not None and layer.name != "head_pool":
        dense = isinstance(layer, layers.Dense)
        if not (dense or isinstance(layer, layers.BatchNormalization | layers.Dropout | layers.UnitNormalization)):
            return None
        if dense and found and layer.activation not in (keras.activations.linear, keras.activations.relu):
            return None
        found.insert(0, layer)
        tensor = layer.input
    if layer is None or not found or not isinstance(found[-1], layers.Dense):
        return None
    pools = [made.get(id(given)) for given in layer.input] if isinstance(layer, layers.Concatenate) else [layer]
    maps = [pool.input for pool in pools if isinstance(pool, layers.GlobalAveragePooling2D)]
    if len(maps) < len(pools):
        return None
    places = np.array([tensor.shape[1:3] for tensor in maps], float)  # None becomes NaN
    return (found, maps) if places.prod() > 1 and not (places.max(axis=0) % places).any() else None


def evidence(head: list[Any], maps: list[Any], pooled: Any) -> Any:
    """Say what each place of an image speaks for.

    Parameters
    ----------
    head
        The layers that `head_of` found.
    maps
        (n, h, w, channels) each, what is pooled.
    pooled
        (n, channels of all maps), their means.

    Returns
    -------
    tf.Tensor
        (n, classes, h, w), as large as the largest map. The mean of a linear head's map is the logit (of two classes,
        the log-odds; the first has its negative) less what every image gets; that of another head's the change along
        its slope at this image.
    """
    seen = [tf.cast(pooled, tf.float32)]
    for layer in head[:-1]:
        seen.append(tf.cast(layer(seen[-1], training=False), tf.float32))
    kernel = tf.transpose(tf.convert_to_tensor(head[-1].kernel))
    slope = (tf.concat([-kernel, kernel], 0) if kernel.shape[0] == 1 else kernel)[None]  # (1 or n, classes, numbers)
    for layer, taken, given in reversed(list(zip(head[:-1], seen[:-1], seen[1:], strict=True))):
        if isinstance(layer, keras.layers.Dense):
            if layer.activation is keras.activations.relu:
                slope *= tf.cast(given > 0, tf.float32)[:, None]
            slope = tf.matmul(slope, tf.transpose(tf.convert_to_tensor(layer.kernel))[None])
        elif isinstance(layer, keras.layers.BatchNormalization):
            scale = 1 / tf.sqrt(tf.convert_to_tensor(layer.moving_variance) + layer.epsilon)
            slope *= scale * tf.convert_to_tensor(layer.gamma) if layer.scale else scale
        elif isinstance(layer, keras.layers.UnitNormalization):
            along = tf.reduce_sum(slope * given[:, None], axis=-1, keepdims=True)
            length = tf.sqrt(tf.reduce_sum(taken**2, axis=-1, keepdims=True))
            slope = (slope - given[:, None] * along) / length[:, None]
    widths = [tensor.shape[-1] for tensor in maps]
    found = [_times(one, own) for one, own in zip(maps, tf.split(slope, widths, axis=-1), strict=True)]
    total, *others = sorted(found, key=lambda one: -one.shape[2] * one.shape[3])
    classes, height, width = total.shape[1:]
    for one in others:
        h, w = one.shape[2:]
        total = tf.reshape(total, (-1, classes, h, height // h, w, width // w)) + one[:, :, :, None, :, None]
    return tf.reshape(total, (-1, classes, height, width))


def _times(maps: Any, slope: Any) -> Any:
    """Multiply a map (n, h, w, channels) by slopes (1 or n, classes, channels): (n, classes, h, w)."""
    height, width, channels = maps.shape[1:]
    flat = tf.reshape(tf.cast(maps, tf.float32), (-1, height * width, channels))
    found = tf.matmul(flat, tf.transpose(slope, (0, 2, 1)))
    return tf.reshape(tf.transpose(found, (0, 2, 1)), (-1, slope.shape[1], height, width))
