"""`train.devices` and `train.workers`: one device trains, or several share each batch and take the step of one."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from biopsy.core.errors import ParamsError
from biopsy.core.sections.train import Train
from biopsy.networks import backend
from biopsy.networks.backend import keras
from biopsy.training.inputs.place import HERE, own_rows


class _Shared(keras.distribution.DataParallel):
    """Share a batch where its images can be dealt out evenly; an uneven one is worked on by every device in full."""

    def get_data_layout(self, data_shape: tuple[int, ...]) -> Any:
        """Say how an array lies on the devices."""
        if data_shape[0] % self.device_mesh.devices.size == 0 and not HERE.whole:
            return super().get_data_layout(data_shape)
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


@contextmanager
def on_devices(model: Any, train: Train, sizes: np.ndarray, n_val: int) -> Iterator[Any]:
    """Give the model that is to be compiled and trained; at the end `model` has its weights.

    Parameters
    ----------
    model
        As `build_model` makes it.
    train
        The section `train`.
    sizes
        How many images each batch of an epoch holds.
    n_val
        How many images are for validation.

    Yields
    ------
    keras.Model
        `model` itself, or where `train.devices` is 'all' and there are several devices, a copy that lies on all.

    Raises
    ------
    ParamsError
        What several devices cannot do.
    """
    found = _devices() if train.devices == "all" or HERE.count > 1 else []
    if len(found) < 2:
        yield model
        return
    _check(train, len(found), int(sizes.min()), n_val)
    print(f"{len(found)} devices share each batch: {', '.join(found)}")
    with _scope(found):
        twin = keras.models.clone_model(model, clone_function=_cloned)
        _copy(model, twin)
        # Keras on TensorFlow would average the pieces of a batch, which need not be of one size, to build it again.
        twin._maybe_symbolic_build = lambda **_: None
        yield twin
    _copy(twin, model)


def _devices() -> list[str]:
    if keras.backend.backend() == "tensorflow":
        listed = backend.tf.config.list_logical_devices
        return [device.name for device in listed("GPU") or listed("CPU")]
    return list(keras.distribution.list_devices())


def _check(train: Train, devices: int, smallest: int, n_val: int) -> None:
    if train.backend != "tensorflow":
        return
    if train.accumulate > 1:
        raise ParamsError(
            f"train.accumulate is {train.accumulate}, which TensorFlow cannot share between {devices} devices. Set it "
            "to 1, train.backend to jax, or train.devices to one."
        )
    if smallest < devices:
        raise ParamsError(
            f"train.batch: a batch of an epoch holds {smallest} images for {devices} devices. Set train.batch to "
            "another number, train.backend to jax, or train.devices to one."
        )
    if n_val < devices:
        raise ParamsError(
            f"train.devices is 'all', and validation has {n_val} images for {devices} devices. Set it to one."
        )


@contextmanager
def _scope(devices: list[str]) -> Iterator[None]:
    if keras.backend.backend() == "tensorflow":
        with backend.tf.distribute.MirroredStrategy(devices).scope(), warnings.catch_warnings():
            # Keras does not know how many batches of validation were dealt out, and wonders at their end.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            yield
        return
    jax, trainer = import_module("jax"), import_module("keras.src.backend.jax.trainer")
    usual = trainer.JAXEpochIterator._get_distributed_iterator
    # Keras lays out every batch as the first one, and fails where the last of an epoch is smaller.
    distribution = _Shared(devices=devices, auto_shard_dataset=False)

    def lay(array: Any) -> Any:
        """Put this process's rows of an array on its devices, as their part of the whole."""
        layout, rows = distribution.get_data_layout(array.shape).backend_layout, own_rows(len(array))
        return jax.make_array_from_process_local_data(layout, array[rows.start : rows.stop], array.shape)

    def batches(self: Any, _: Any) -> Iterator[Any]:
        return (keras.tree.map_structure(lay, batch) for batch in self.data_adapter.get_jax_iterator())

    trainer.JAXEpochIterator._get_distributed_iterator = batches
    try:
        with distribution.scope():
            yield
    finally:
        trainer.JAXEpochIterator._get_distributed_iterator = usual


def _cloned(layer: Any) -> Any:
    """Make a layer again; on TensorFlow its batch norm asks the other devices for their images' figures."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        config["synchronized"] = keras.backend.backend() == "tensorflow"
    return type(layer).from_config(config)


def _copy(source: Any, target: Any) -> None:
    for one, other in zip(source.variables, target.variables, strict=True):
        other.assign(keras.ops.convert_to_numpy(one))


def shared(batches: Any, class_weight: dict[int, float] | None) -> tuple[Any, dict[int, float] | None]:
    """Deal batches out to the devices of the strategy in force, on TensorFlow, which would let them cross epochs.

    Returns
    -------
    batches, class_weight
        As given; or one piece of a batch for each device, and None: the weights of classes are now those of images,
        multiplied so that each image counts as much as in the whole batch (in the logged `loss`, pieces of an uneven
        batch count a little more or less).
    """
    if (devices := _mirrored()) == 1:
        return batches, class_weight
    tf = backend.tf
    known = class_weight or {0: 1.0}
    table = tf.constant([known.get(label, 1.0) for label in range(max(known) + 1)], tf.float32)

    def weighed(inputs: Any, targets: Any) -> Any:
        label = tf.argmax(targets, -1) if targets.shape[-1] > 1 else tf.cast(tf.round(targets[:, 0]), tf.int64)
        weights = tf.gather(table, label) if class_weight else tf.ones_like(targets[:, 0])
        n = tf.shape(targets, tf.int64)[0]
        edges = tf.range(devices + 1, dtype=tf.int64) * n // devices
        sizes = tf.repeat(edges[1:] - edges[:-1], edges[1:] - edges[:-1])
        return inputs, targets, weights * tf.cast(sizes * devices / n, tf.float32)

    return _dealt(batches.map(weighed), devices), None


def shared_validation(batches: Any, n: int, batch: int) -> Any:
    """Deal out the batches of n validation images, as `shared` does; no device may be left without an image."""
    if (devices := _mirrored()) == 1:
        return batches
    last = (n - 1) // batch * batch
    first = last if n - last >= devices else max(0, last - batch)
    rows = batches.unbatch()
    return _dealt(rows.take(first).batch(batch).concatenate(rows.skip(first).batch(n - first)), devices)


def _mirrored() -> int:
    """Count the devices of TensorFlow's strategy in force."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return int(backend.tf.distribute.get_strategy().num_replicas_in_sync)


def _dealt(batches: Any, devices: int) -> Any:
    """Cut each batch into one piece for each device, as even as they can be."""
    tf = backend.tf

    def pieces(*batch: Any) -> Any:
        n = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

        def piece(device: Any) -> Any:
            first, last = device * n // devices, (device + 1) * n // devices
            return tf.nest.map_structure(lambda tensor: tensor[first:last], batch)

        return tf.data.Dataset.range(devices).map(piece)

    whole = batches.flat_map(pieces).prefetch(2 * devices)
    return tf.distribute.get_strategy().distribute_datasets_from_function(lambda _: whole)
