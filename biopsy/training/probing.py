"""Fit a probe instead of training with `fit`: put it into the Keras model, and report on it as a training does.

`refit_head` afterwards replaces it by a probe that was also fitted on the validation images.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.params import Params
from biopsy.core.sections.section import Task
from biopsy.networks.backend import keras
from biopsy.networks.features import split_model
from biopsy.networks.temperature import both_classes
from biopsy.training.inputs.image_features import image_features
from biopsy.training.inputs.loader import ImageStore
from biopsy.training.probe import without_effect
from biopsy.training.probe_layers import EXTRA, FittedLayers, fit_layers, refit_layers
from biopsy.training.progress import LiveLog

SMALLEST = 1e-7  # the smallest probability that a loss takes, as in Keras


@dataclass(frozen=True)
class ProbeState:
    """The state of a fitted probe, with what `TrainingState` has of a training of one epoch.

    Attributes
    ----------
    history
        One dict: loss and accuracy of both parts, and what `FittedLayers.figures` gives.
    seconds
        How long it took.
    features
        (n, p) by layer, what the head sees of each image.
    probe
        What was fitted on the training images.
    """

    history: list[dict[str, float]]
    seconds: list[float]
    features: dict[str, np.ndarray]
    probe: FittedLayers

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return len(self.history)


def fit_head(
    model: Any,
    params: Params,
    task: Task,
    store: ImageStore,
    targets: np.ndarray,
    n_train: int,
    *,
    title: str,
    live_dir: Path,
    cases: np.ndarray,
    extra: np.ndarray | None = None,
    parents: np.ndarray | None = None,
    **_: object,
) -> ProbeState:
    """Fit the probe and set the output layer's weights.

    Parameters
    ----------
    model
        As `build_model` makes it where `model.head.kind` is 'probe'.
    params, task, store, targets, n_train, title, live_dir, extra
        As `fit` takes them; the rest of its arguments is of no use here.
    cases
        (n_train,) the case of each training image.
    parents
        As for `fit_layers`.

    Returns
    -------
    ProbeState

    Raises
    ------
    DataError, ParamsError, MachineError
        As `fit_probe` and `image_features`.
    """
    begun, classes = time.perf_counter(), max(2, model.output_shape[-1])
    found = image_features(split_model(model)[0], store, title)
    seen = by_layer(model, params.model.features.layers, found) | ({} if extra is None else {EXTRA: extra})
    found = found if extra is None else np.concatenate([found, extra], axis=1)
    known = {name: columns[:n_train] for name, columns in seen.items()}
    probe = fit_layers(known, targets[:n_train], cases, classes, params.model.probe, params.seed, parents)
    if any(params.augment.every.values()):
        print(f"{title}: a probe takes the images as they are; augment.every is not used")
    if unused := without_effect(params.train):
        print(f"{title}: a probe is fitted at once; not used: {', '.join(unused)}")
    for note in probe.notes:
        print(f"{title}: {note}")
    _set(model, probe)
    head = keras.Model(model.get_layer("probe_centre").input, model.output)
    figures = probe.figures()
    for part, rows in {"": slice(n_train), "val_": slice(n_train, None)}.items():
        figures |= {f"{part}{name}": value for name, value in _figures(head, found[rows], targets[rows]).items()}
    state = ProbeState([figures], [time.perf_counter() - begun], seen, probe)
    log = LiveLog(live_dir, state)
    log.on_train_begin()
    log.on_train_end()
    return state


def refit_head(model: Any, params: Params, state: ProbeState, targets: np.ndarray, cases: np.ndarray) -> None:
    """Fit the probe on the training and the validation images, and set the output layer's weights anew.

    Parameters
    ----------
    model, params
        As for `fit_head`.
    state
        What that returned; each C is kept.
    targets, cases
        (n,) the class and the case of each image.
    """
    classes = max(2, model.output_shape[-1])
    _set(model, refit_layers(state.features, targets, cases, classes, params.model.probe, state.probe))


def by_layer(model: Any, layers: list[str], found: np.ndarray) -> dict[str, np.ndarray]:
    """Divide features (n, p) among the layers whose pooled maps they are."""
    if len(layers) == 1:
        return {layers[0]: found}
    widths = [vector.shape[-1] for vector in model.get_layer("head_pool").input]  # one a layer, or mean and deviation
    widths = np.reshape(widths, (len(layers), -1)).sum(axis=1)
    return dict(zip(layers, np.split(found, np.cumsum(widths)[:-1], axis=1), strict=True))


def _set(model: Any, probe: FittedLayers) -> None:
    model.get_layer("probe_centre").set_weights([probe.centre, np.ones_like(probe.centre)])
    model.get_layer("probabilities").set_weights([probe.kernel, probe.bias])


def _figures(head: Any, features: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Measure the plain cross-entropy and the accuracy."""
    given = both_classes(np.asarray(head.predict_on_batch(features), np.float64))
    own = np.clip(given[np.arange(len(targets)), targets], SMALLEST, 1.0)
    return {"loss": float(-np.log(own).mean()), "accuracy": float((given.argmax(axis=1) == targets).mean())}
