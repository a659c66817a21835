"""From backbone to the vector that a head sees: which layers, and how they are pooled, in Keras's operations."""

from typing import Any

from biopsy.core.errors import ParamsError, nearest, some
from biopsy.core.sections.model import Features
from biopsy.networks.backend import keras

TINY = 1e-6  # added below a root, whose slope at 0 is infinite
GEM_POWER = 3.0


def feature_maps(backbone: Any, last: Any, features: Features) -> list[Any]:
    """Take the outputs of the named layers.

    Parameters
    ----------
    backbone
        A flat Keras model, from pixels to its last feature map.
    last
        That map, a tensor of the graph that is being built.
    features
        Its `layers`: names, or `last`.

    Returns
    -------
    list of keras.KerasTensor
        (n, h, w, channels) each.

    Raises
    ------
    ParamsError
        There is no such layer, or its output is not a map; names the nearest layer.
    """
    maps = {layer.name: layer.output for layer in backbone.layers if _is_map(layer)} | {"last": last}
    for name in features.layers:
        if name in maps:
            continue
        known = [layer.name for layer in backbone.layers]
        what = "is not a feature map" if name in known else "is not there"
        near = nearest(name, maps) or f" There are {some(maps, 8)}."
        raise ParamsError(f"model.features.layers: a layer '{name}' {what} in model.backbone.{near}")
    return [maps[name] for name in features.layers]


def _is_map(layer: Any) -> bool:
    given = isinstance(layer, keras.layers.InputLayer)
    return not given and not isinstance(layer.output, list | tuple | dict) and len(layer.output.shape) == 4


def stack_tiles(feature_map: Any, tiles: int) -> Any:
    """Put the maps of an image's tiles one below the other: (n * tiles, h, w, c) to (n, tiles * h, w, c)."""
    if tiles == 1:
        return feature_map
    height, width, channels = feature_map.shape[1:]
    return keras.ops.reshape(feature_map, (-1, tiles * height, width, channels))


def pool_maps(maps: list[Any], pool: str) -> Any:
    """Pool each map over its positions, all tiles together, and join the vectors.

    Parameters
    ----------
    maps
        (n, h, w, channels) each.
    pool
        `mean`; `sd`, the mean and the standard deviation; `gem`, the generalised mean of power 3 of the positive values
        (Radenovic et al., 2018, arXiv 1711.02512), between the mean and the maximum.

    Returns
    -------
    keras.KerasTensor
        (n, features); its layer is called `head_pool`.
    """
    if len(maps) == 1 and pool == "mean":
        return keras.layers.GlobalAveragePooling2D(name="head_pool")(maps[0])
    pooled = [vector for feature_map in maps for vector in _pool(feature_map, pool)]
    if len(pooled) == 1:
        return keras.layers.Identity(name="head_pool")(pooled[0])
    return keras.layers.Concatenate(name="head_pool")(pooled)


def feature_model(model: Any) -> Any:
    """Cut a trained network before its head: a model from pixels to (n, features); None where it has no `head_pool`."""
    if all(layer.name != "head_pool" for layer in model.layers):
        return None
    pixels = {tensor.name: tensor for tensor in model.inputs}.get("pixels", model.inputs[0])
    return keras.Model(pixels, model.get_layer("head_pool").output)


def split_model(model: Any) -> tuple[Any, Any]:
    """Cut a network where its frozen part ends.

    Parameters
    ----------
    model
        As `build_model` makes it, with no trainable weight in its backbone.

    Returns
    -------
    extractor, head : keras.Model
        From pixels to features, and from features to probabilities. The features are pooled, (n, channels), unless the
        head has layers before the pool: then they are the feature map. Both share their layers with `model`.
    """
    names = {layer.name for layer in model.layers}
    before_pool = "head_feature_bn" in names
    cut = model.get_layer("head_feature_bn").input if before_pool else model.get_layer("head_pool").output
    named = {tensor.name: tensor for tensor in model.inputs}
    extra = [named["extra"]] if "extra" in named else []
    pixels = named.get("pixels", model.inputs[0])  # not `model.input`: of a loaded model that is a list
    features = [cut, *extra] if extra else cut
    return keras.Model(pixels, cut, name="extractor"), keras.Model(features, model.output, name="head")


def _pool(feature_map: Any, pool: str) -> list[Any]:
    ops, over = keras.ops, (1, 2)
    if pool == "gem":
        feature_map = _wide(feature_map)
        powers = ops.mean(ops.power(ops.maximum(feature_map, 0.0), GEM_POWER), axis=over)
        return [ops.power(powers + TINY, 1 / GEM_POWER)]
    mean = keras.layers.GlobalAveragePooling2D()(feature_map)
    return [mean, ops.sqrt(ops.var(_wide(feature_map), axis=over) + TINY)] if pool == "sd" else [mean]


def _wide(feature_map: Any) -> Any:
    """Cast to float32: in float16, the third power of 41 and the slope of a root near 0 overflow."""
    return feature_map if feature_map.dtype == "float32" else keras.ops.cast(feature_map, "float32")
