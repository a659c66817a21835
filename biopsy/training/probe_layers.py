"""A probe of the layers that the inner folds choose, as one dense layer on the features of all of them.

Which layers separate new patients is a choice like that of C: made on test figures it flatters, so it is made by the
same folds of cases inside the training part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biopsy.core.sections.model import Probe
from biopsy.training.probe import FittedProbe, Ints, fit_probe, too_few

EXTRA = "extra"  # the name of what is known of an image beside its pixels: every probe sees it

Features = Mapping[str, NDArray[np.floating]]


def fit_layers(
    features: Features, targets: Ints, cases: NDArray[np.generic], classes: int, settings: Probe, seed: int = 0
) -> FittedProbe:
    """Fit a probe of all layers together, or where `model.probe.layers` is 'chosen' of one, if that does better.

    Parameters
    ----------
    features
        (n, p) of each layer by its name, of training images alone, and of `EXTRA`, if anything is known beside pixels.
    targets, cases, classes, settings, seed
        As for `fit_probe`. The folds that choose C choose the layers.

    Returns
    -------
    FittedProbe
        On all columns, in the order of `features`; the weights of columns that it does not use are 0. Where layers
        score the same, the first one is taken.

    Raises
    ------
    DataError, ParamsError
        As `fit_probe`.
    """
    names = [name for name in features if name != EXTRA]
    candidates, notes = [names], tuple[str, ...]()
    if settings.layers == "chosen" and (few := too_few(targets, cases, settings.folds)):
        notes = (f"the layers are taken together, not chosen: {few}",)
    elif settings.layers == "chosen":
        candidates = [*([name] for name in names), names]
    fitted = [_fit(features, layers, targets, cases, classes, settings, seed) for layers in candidates]
    best = max(fitted, key=lambda one: round(one.scores.get(one.C, 0.0), 9))
    if len(candidates) > 1:
        notes = (f"the inner folds chose {' + '.join(best.layers)}",)
    return replace(best, notes=(*notes, *best.notes))


def refit_layers(
    features: Features, targets: Ints, cases: NDArray[np.generic], classes: int, settings: Probe, chosen: FittedProbe
) -> FittedProbe:
    """Fit what was chosen anew, on more images: the layers and C stay. See `fit_layers`."""
    settings = settings.model_copy(update={"C": [chosen.C], "layers": "together"})
    return _fit(features, chosen.layers, targets, cases, classes, settings, 0)


def _fit(features: Features, layers: Sequence[str], targets: Ints, *rest: object) -> FittedProbe:
    """Fit a probe of some layers, and put zeros in for the others."""
    seen = np.concatenate([np.full(found.shape[1], name in (*layers, EXTRA)) for name, found in features.items()])
    every = np.concatenate(list(features.values()), axis=1)
    probe = fit_probe(every if seen.all() else every[:, seen], targets, *rest)
    centre, kernel = np.zeros(len(seen)), np.zeros((len(seen), probe.kernel.shape[1]))
    centre[seen], kernel[seen] = probe.centre, probe.kernel
    return replace(probe, centre=centre, kernel=kernel, layers=tuple(layers))
