"""Probes of the layers that a head sees, as one dense layer on the features of all of them.

A probe of all layers together has thousands of weights for a few dozen cases. Probes of one layer each err differently,
so that the mean of their logits holds better for new cases; it is linear too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopsy.core.sections.model import Probe
from biopsy.training.probe import FittedProbe, Ints, fit_probe
from biopsy.training.regression import Floats, softmax

EXTRA = "extra"  # the name of what is known of an image beside its pixels: every probe sees it

Features = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class FittedLayers:
    """One dense layer on centred features: the mean of some probes.

    Attributes
    ----------
    probes
        By the layers that each sees, such as 'block_13_expand_relu + last'.
    centre, kernel, bias
        (p,), (p, outputs) and (outputs,) float64, as in `FittedProbe`, on the features of all layers.
    """

    probes: Mapping[str, FittedProbe]
    centre: Floats
    kernel: Floats
    bias: Floats

    @property
    def strengths(self) -> list[float]:
        """The inverse strength of each probe's penalty."""
        return [probe.C for probe in self.probes.values()]

    @property
    def notes(self) -> list[str]:
        """Sentences for the user, each once."""
        return list(dict.fromkeys(note for probe in self.probes.values() for note in probe.notes))

    @property
    def inner(self) -> Floats | None:
        """(n, classes) float64, the answers out of the inner folds; None where a probe has none. See `FittedProbe`."""
        given = [probe.inner for probe in self.probes.values() if probe.inner is not None]
        if len(given) < len(self.probes):
            return None
        least = np.finfo(float).tiny
        return softmax(np.mean([np.log(np.maximum(answers, least)) for answers in given], axis=0))

    def figures(self) -> dict[str, float]:
        """Name each C, and where it was chosen the macro-F1 of the inner folds, a mean over the probes."""
        single = len(self.probes) == 1
        found = {"C" if single else f"C_{name}": probe.C for name, probe in self.probes.items()}
        scores = [probe.scores[probe.C] for probe in self.probes.values() if probe.scores]
        return found | ({"inner_macro_f1": float(np.mean(scores))} if scores else {})

    def probabilities(self, features: NDArray[np.floating]) -> Floats:
        """Answer: features (n, p) of all layers to (n, classes), rows that sum to 1."""
        return softmax((np.asarray(features, np.float64) - self.centre) @ self.kernel + self.bias)


def fit_layers(
    features: Features, targets: Ints, cases: NDArray[np.generic], classes: int, settings: Probe, seed: int = 0
) -> FittedLayers:
    """Fit a probe of all layers together, or where `model.probe.layers` is 'averaged' one of each.

    Parameters
    ----------
    features
        (n, p) of each layer by its name, of training images alone, and of `EXTRA`, if anything is known beside pixels.
    targets, cases, classes, settings, seed
        As for `fit_probe`. Each probe chooses its own C.

    Returns
    -------
    FittedLayers
        On all columns, in the order of `features`.

    Raises
    ------
    DataError, ParamsError
        As `fit_probe`.
    """
    names = [name for name in features if name != EXTRA]
    groups = [[name] for name in names] if settings.layers == "averaged" else [names]
    return _fit(features, groups, targets, cases, classes, [settings] * len(groups), seed)


def refit_layers(
    features: Features, targets: Ints, cases: NDArray[np.generic], classes: int, settings: Probe, chosen: FittedLayers
) -> FittedLayers:
    """Fit what was chosen anew, on more images: each C stays. See `fit_layers`."""
    groups = [name.split(" + ") for name in chosen.probes]
    fixed = [settings.model_copy(update={"C": [c]}) for c in chosen.strengths]
    return _fit(features, groups, targets, cases, classes, fixed, 0)


def _fit(
    features: Features,
    groups: Sequence[Sequence[str]],
    targets: Ints,
    cases: NDArray[np.generic],
    classes: int,
    settings: Sequence[Probe],
    seed: int,
) -> FittedLayers:
    """Fit a probe of each group of layers, and average them; what a probe does not see weighs 0 in it."""
    every = np.concatenate(list(features.values()), axis=1)
    outputs = classes if classes > 2 else 1
    centre, kernel, bias = np.zeros(every.shape[1]), np.zeros((every.shape[1], outputs)), np.zeros(outputs)
    probes: dict[str, FittedProbe] = {}
    for group, own in zip(groups, settings, strict=True):
        seen = np.concatenate([np.full(found.shape[1], name in (*group, EXTRA)) for name, found in features.items()])
        probe = fit_probe(every if seen.all() else every[:, seen], targets, cases, classes, own, seed)
        centre[seen] = probe.centre
        kernel[seen] += probe.kernel / len(groups)
        bias += probe.bias / len(groups)
        probes[" + ".join(group)] = probe
    return FittedLayers(probes, centre, kernel, bias)
