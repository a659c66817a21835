"""Answers of the presets of `experiments.py` that train the backbone or mix pixels, which no stored features allow."""

from typing import Any

import numpy as np
from honest import FOLDS, Floats, Ints
from numpy.typing import NDArray
from tqdm import tqdm, trange

from biopsy.core.params import Params
from biopsy.networks.answers import BATCH
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.temperature import both_classes
from biopsy.tables.labels.breakhis import TYPES
from biopsy.training.fit import class_weights, compile_model
from biopsy.training.inputs.features import FeatureFeed
from biopsy.training.inputs.feed import PixelFeed
from biopsy.training.inputs.loader import ImageStore, TrainingItems, encode_targets, training_items


def whole_batches(items: TrainingItems, batch: int, seed: int) -> TrainingItems:
    """Fill the last batch of an epoch with items drawn again: each other size of a batch would be compiled anew."""
    again = np.random.default_rng(seed).integers(0, len(items), -len(items) % batch)
    rows = np.concatenate([np.arange(len(items)), again])
    return TrainingItems(items.index[rows], items.target[rows], items.copy[rows])


def variables_of(model: Any) -> list[Any]:
    """List what training changes: the model's variables and its optimiser's."""
    return [*model.variables, *model.optimizer.variables]


def restart(model: Any, start: list[Any]) -> None:
    """Set all that training changes back to `start`."""
    for variable, value in zip(variables_of(model), start, strict=True):
        variable.assign(value)


def predict(model: Any, inputs: NDArray[Any], title: str = "") -> NDArray[np.float32]:
    """Ask a model about inputs in batches of one size."""
    filled = np.concatenate([inputs, inputs[: -len(inputs) % BATCH]])
    parts = tqdm(np.split(filled, len(filled) // BATCH), title, delay=2, disable=not title)
    return np.concatenate([model.predict_on_batch(part.astype(np.float32)) for part in parts])[: len(inputs)]


def frozen_part(model: Any) -> tuple[Any, Any]:
    """Cut a network at the last tensor before its first trained layer that all that follows depends on alone.

    Returns
    -------
    frozen, trained : keras.Model
        The first is None where the network trains from its first layers on. Both share their layers with `model`.
    """
    first = next(number for number, layer in enumerate(model.layers) if layer.trainable_weights)
    for start in range(first, 1, -1):
        after = {id(layer.output) for layer in model.layers[start:]}
        inputs = [t for layer in model.layers[start:] for t in keras.tree.flatten(layer.input) if id(t) not in after]
        if len({id(tensor) for tensor in inputs}) == 1:
            return keras.Model(model.inputs, inputs[0]), keras.Model(inputs[0], model.output)
    return None, model


class Backbones:
    """Trains one network after the other, each from the same first weights; it is built and compiled once.

    Parameters
    ----------
    params
        Of a preset; all epochs are trained, and the last is kept.
    task
        `binary` or `multiclass`.
    pixels
        (n, views, size, size, 3) uint8: all images. Each square is trained on as an image, and answers are averaged.
    """

    def __init__(self, params: Params, task: Any, pixels: NDArray[np.uint8], title: str) -> None:
        seed_everything(params.seed)
        self.params, self.task, self.classes = params, task, 2 if task == "binary" else len(TYPES)
        self.views = pixels.shape[1]
        self.seen: NDArray[Any] = pixels.reshape(-1, *pixels.shape[2:])
        self.model, frozen = build_model(params.model, params.resize.size, self.classes), None
        if not (params.augment.every or params.augment.mix.mixup or params.augment.mix.cutmix):
            frozen, self.model = frozen_part(self.model)
        self.stored = frozen is not None
        if self.stored:
            self.seen = predict(frozen, self.seen, title)
        self.start: list[Any] = []

    def answers(self, targets: Ints, known: NDArray[np.bool_], asked: NDArray[np.bool_]) -> Floats:
        """Train on the images `known` and answer those `asked`: (n, classes)."""
        train, model = self.params.train, self.model
        shown, labels = np.repeat(known, self.views), np.repeat(targets[known], self.views)
        items = whole_batches(training_items(labels, self.params.augment, self.task), train.batch, self.params.seed)
        epochs, steps = train.epochs_of(self.task), len(items) // train.batch
        if not self.start:
            compile_model(model, train, items.target, epochs, steps)
            self.start = [np.array(variable) for variable in variables_of(model)]
        restart(model, self.start)
        feed: FeatureFeed | PixelFeed
        if self.stored:
            inputs, encoded = self.seen[shown][items.index], encode_targets(items.target, self.classes)
            feed = FeatureFeed(inputs, encoded, inputs[:0], encoded[:0], 1, train.batch, self.params.seed)
        else:
            store = ImageStore.whole(self.seen[shown])
            feed = PixelFeed(store, items, labels[:0], self.params, self.task, self.classes, train.batch)
        model.fit(
            feed.train(range(epochs)), steps_per_epoch=steps, epochs=epochs, class_weight=class_weights(items, train),
            shuffle=False, verbose=0,
        )  # fmt: skip
        found = np.asarray(predict(model, self.seen[np.repeat(asked, self.views)]), np.float64)
        return both_classes(found).reshape(-1, self.views, self.classes).mean(axis=1)


def trained(params: Params, task: str, pixels: NDArray[np.uint8], targets: Ints, folds: Ints, title: str) -> Floats:
    """Answer each image by a network that was trained on the other folds."""
    network = Backbones(params, task, pixels, title)
    found = np.zeros((len(targets), network.classes))
    for fold in trange(FOLDS, desc=title, delay=2):
        found[folds == fold] = network.answers(targets, folds != fold, folds == fold)
    return found
