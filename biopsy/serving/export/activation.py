"""Class-activation maps in closed form, of heads that see the mean of one feature map: no gradient is asked for.

A logit's slope at the pooled features is known layer by layer; the map is that slope times the feature map (Zhou et
al., 2016, arXiv 1512.04150, for linear heads; Grad-CAM, arXiv 1610.02391, for others, without its ReLU).
"""

from typing import Any

import numpy as np

from biopsy.networks.backend import keras, tf


def head_of(model: Any) -> list[Any] | None:
    """Find the layers behind the pool, from the first to the output.

    Parameters
    ----------
    model
        A Keras model.

    Returns
    -------
    list of keras.layers.Layer, or None
        None where the head is of another kind: no mean of one feature map of several places, or a layer whose slope
        is not known.
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
    if not isinstance(layer, layers.GlobalAveragePooling2D) or not found or not isinstance(found[-1], layers.Dense):
        return None
    places = layer.input.shape[1:3]
    return found if None not in places and np.prod(places) > 1 else None


def evidence(head: list[Any], maps: Any, pooled: Any) -> Any:
    """Say what each place of an image speaks for.

    Parameters
    ----------
    head
        From `head_of`.
    maps
        (n, h, w, channels), what is pooled.
    pooled
        (n, channels), its mean.

    Returns
    -------
    tf.Tensor
        (n, classes, h, w). The mean of a linear head's map is the logit (of two classes, the log-odds; the first has
        its negative) less what every image gets; that of another head's the change along its slope at this image.
    """
    maps, pooled = tf.cast(maps, tf.float32), tf.cast(pooled, tf.float32)
    seen = [pooled]
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
    height, width, channels = maps.shape[1:]
    flat = tf.reshape(maps, (-1, height * width, channels))
    found = tf.matmul(flat, tf.transpose(slope, (0, 2, 1)))
    return tf.reshape(tf.transpose(found, (0, 2, 1)), (-1, slope.shape[1], height, width))
