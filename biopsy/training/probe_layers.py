"""Probes of the layers that a head sees, as one dense layer on the features of all of them.

A probe of all layers together has thousands of weights for a few dozen cases. Probes of one layer each err differently,
so that the mean of their logits holds better for new cases; it is linear too. So is the sum of the logits of a class
and of its class in the parent task: a tumour type of few cases gains from what many cases say about malignant tissue.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopsy.core.sections.model import Probe
from biopsy.training.probe import CentredDense, FittedProbe, Ints, fit_probe
from biopsy.training.regression import Floats, softmax

EXTRA = "extra"  # the name of what is known of an image beside its pixels: every probe sees it

Features = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Part:
    """What one of the probes sees, and whether it answers for the classes of the parent task."""

    layers: tuple[str, ...]
    parent: bool = False

    def __str__(self) -> str:
        return " + ".join(self.layers) + (", parent task" if self.parent else "")


@dataclass(frozen=True)
class FittedLayers(CentredDense):
    """The mean of some probes, plus the mean of those of the parent task, on the features of all layers.

    Attributes
    ----------
    probes
        By what each sees and answers.
    parents
        (classes,) int, each class's class in the parent task; None where that has no probes.
    """

    probes: Mapping[Part, FittedProbe]
    parents: Ints | None = None

    def strengths(self, parent: bool = False) -> list[float]:
        """List the inverse strength of the penalty of each probe of the task, or of those of its parent task."""
        return [probe.C for part, probe in self.probes.items() if part.parent == parent]

    @property
    def notes(self) -> list[str]:
        """Sentences for the user, each once."""
        return list(dict.fromkeys(note for probe in self.probes.values() for note in probe.notes))

    @property
    def inner(self) -> Floats | None:
        """(n, classes) float64, the answers out of the inner folds; None where a probe has none. See `FittedProbe`."""
        least, logits = np.finfo(float).tiny, dict[bool, list[Floats]]()
        for part, probe in self.probes.items():
            if probe.inner is None:
                return None
            logits.setdefault(part.parent, []).append(np.log(np.maximum(probe.inner, least)))
        found = np.mean(logits[False], axis=0)
        if self.parents is not None:
            found = found + np.mean(logits[True], axis=0)[:, self.parents]
        return softmax(found)

    def figures(self) -> dict[str, float]:
        """Name each C, and where it was chosen the macro-F1 of the inner folds, a mean over the task's own probes."""
        single = len({part.layers for part in self.probes}) == 1
        found = {
            f"C{'' if single else '_' + ' + '.join(part.layers)}{'_parent' if part.parent else ''}": probe.C
            for part, probe in self.probes.items()
        }
        scores = [probe.scores[probe.C] for part, probe in self.probes.items() if probe.scores and not part.parent]
        return found | ({"inner_macro_f1": float(np.mean(scores))} if scores else {})


def fit_layers(
    features: Features,
    targets: Ints,
    cases: NDArray[np.generic],
    classes: int,
    settings: Probe,
    seed: int = 0,
    parents: Ints | None = None,
) -> FittedLayers:
    """Fit a probe of all layers together, or where `model.probe.layers` is 'averaged' one of each.

    Parameters
    ----------
    features
        (n, p) of each layer by its name, of training images alone, and of `EXTRA`, if anything is known beside pixels.
    targets, cases, classes, settings, seed
        As for `fit_probe`. Each probe chooses its own C.
    parents
        (classes,) int, each class's class in the parent task, for the probes of `model.probe.parent`; None: no such
        task. They are left out where they could say nothing: the training images are of one parent class.

    Returns
    -------
    FittedLayers
        On all columns, in the order of `features`.

    Raises
    ------
    DataError, ParamsError
        As `fit_probe`.
    """
    names = tuple(name for name in features if name != EXTRA)
    groups = [(name,) for name in names] if settings.layers == "averaged" else [names]
    parts = {Part(group): settings for group in groups}
    if not settings.parent or parents is None or len(np.unique(parents[targets])) < 2:
        return _fit(features, parts, targets, cases, classes, seed, None)
    return _fit(
        features, parts | {Part(group, True): settings for group in groups}, targets, cases, classes, seed, parents
    )


def refit_layers(
    features: Features, targets: Ints, cases: NDArray[np.generic], classes: int, settings: Probe, chosen: FittedLayers
) -> FittedLayers:
    """Fit what was chosen anew, on more images: each C stays. See `fit_layers`."""
    parts = {part: settings.model_copy(update={"C": [probe.C]}) for part, probe in chosen.probes.items()}
    return _fit(features, parts, targets, cases, classes, 0, chosen.parents)


def _fit(
    features: Features,
    parts: Mapping[Part, Probe],
    targets: Ints,
    cases: NDArray[np.generic],
    classes: int,
    seed: int,
    parents: Ints | None,
) -> FittedLayers:
    """Fit each part's probe and add them up; what a probe does not see weighs 0 in it."""
    every = np.concatenate(list(features.values()), axis=1)
    outputs, share = classes if classes > 2 else 1, len({part.layers for part in parts})
    centre, kernel, bias = np.full(every.shape[1], np.nan), np.zeros((every.shape[1], outputs)), np.zeros(outputs)
    probes: dict[Part, FittedProbe] = {}
    for part, own in parts.items():
        seen = np.concatenate([np.full(x.shape[1], name in (*part.layers, EXTRA)) for name, x in features.items()])
        known = every if seen.all() else every[:, seen]
        if part.parent and parents is not None:
            probe = fit_probe(known, parents[targets], cases, int(parents.max()) + 1, own, seed)
            slopes, offsets = _spread(probe, parents)
        else:
            probe = fit_probe(known, targets, cases, classes, own, seed)
            slopes, offsets = probe.kernel, probe.bias
        # The images weigh otherwise where the classes are those of the parent task, and so does their mean.
        centre[seen] = np.where(np.isnan(centre[seen]), probe.centre, centre[seen])
        kernel[seen] += slopes / share
        bias += (offsets + (centre[seen] - probe.centre) @ slopes) / share
        probes[part] = probe
    return FittedLayers(centre, kernel, bias, probes, parents)


def _spread(probe: FittedProbe, parents: Ints) -> tuple[Floats, Floats]:
    """Give each class the kernel (p, classes) and the bias (classes,) of its class in the parent task."""
    kernel, bias = probe.kernel, probe.bias
    if len(bias) == 1:  # of two classes, the second against the first
        kernel, bias = np.concatenate([np.zeros_like(kernel), kernel], axis=1), np.concatenate([[0.0], bias])
    return kernel[:, parents], bias[parents]
