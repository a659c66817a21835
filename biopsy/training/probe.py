"""The probe: logistic regression on features, its strength chosen by folds of cases, as the weights of one dense layer.

Scaling and whitening are folded into the layer; a layer before it subtracts the mean.
Duplicated images of a case change nothing where `weights` is 'case'.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.sections.model import Probe
from biopsy.core.sections.train import Train
from biopsy.core.text import count
from biopsy.training.regression import Floats, Ints, all_classes, regress, softmax, standardise

FALLBACK = 100.0  # C, where there are too few cases to choose; its neighbours do as well on BreakHis
OF_STEPS = (
    "sampling",
    "optimizer",
    "weight_decay",
    "clip_norm",
    "ema",
    "accumulate",
    "loss",
    "schedule",
    "monitor",
)  # of `train`


@dataclass(frozen=True)
class CentredDense:
    """One dense layer on centred features.

    Attributes
    ----------
    centre
        (p,) float64, what is subtracted from the features: their weighted mean over the training images.
    kernel, bias
        (p, outputs) and (outputs,) float64; one output (sigmoid) for two classes, else one a class (softmax).
    """

    centre: Floats
    kernel: Floats
    bias: Floats

    def probabilities(self, features: NDArray[np.floating]) -> Floats:
        """Answer: features (n, p) to (n, classes), rows that sum to 1."""
        return softmax((np.asarray(features, np.float64) - self.centre) @ self.kernel + self.bias)


@dataclass(frozen=True)
class FittedProbe(CentredDense):
    """A probe, and how it was chosen.

    Attributes
    ----------
    C
        The inverse strength of the penalty.
    scores
        Macro-F1 of the pooled answers out of the inner folds, by C; empty where nothing was chosen.
    notes
        Sentences for the user.
    inner
        (n, classes) float64, the pooled answers out of the inner folds with this C; None where nothing was chosen. Not
        numbers for images of a class that is in one fold alone: who answered had not learnt it.
    """

    C: float
    scores: dict[float, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inner: Floats | None = None


def without_effect(train: Train) -> list[str]:
    """Name what was changed in the section `train` for a training by steps, which a probe is not."""
    plain = Train()
    return [f"train.{key}" for key in OF_STEPS if getattr(train, key) != getattr(plain, key)]


@threadpool_limits.wrap(limits=1)  # matrices this small are ten times slower on two threads of a busy machine
def fit_probe(
    features: NDArray[np.floating],
    targets: Ints,
    cases: NDArray[np.generic],
    classes: int,
    settings: Probe,
    seed: int = 0,
) -> FittedProbe:
    """Choose C by folds of cases, and fit.

    Parameters
    ----------
    features
        (n, p), of training images alone.
    targets
        (n,) int, 0 to classes - 1.
    cases
        (n,) the case of each image, of any type that sorts.
    classes
        2, or more.
    settings
        The section `model.probe`.
    seed
        Of the folds.

    Returns
    -------
    FittedProbe
        Of equal scores the smaller C, the stronger penalty, is taken.

    Raises
    ------
    DataError
        The images are of one class, or a feature is not finite.
    ParamsError
        The solver did not converge, or there are fewer images or features than `pca` components.
    """
    if len(np.unique(targets)) < 2:
        raise DataError("the training part holds one class only. Choose another seed or protocol, or use more images.")
    if not np.isfinite(features).all():
        raise DataError("the backbone's features are not finite numbers. Check model.weights, or set train.precision.")
    grid, notes = sorted(set(settings.C)), list[str]()
    chosen, scores, inner = grid[0], dict[float, float](), None
    if len(grid) > 1 and (few := too_few(targets, cases, settings.folds)):
        chosen = min(grid, key=lambda c: abs(np.log(c / FALLBACK)))
        notes.append(f"C is {chosen:g}, not chosen: {few}")
    elif len(grid) > 1:
        fold_of = grouped_folds(targets, cases, settings.folds, seed)
        answers = _inner_answers(features, targets, cases, settings, classes, fold_of)
        lost = [c for c in grid if c not in answers]
        notes += [f"C {c:g} is left out: no convergence in {settings.max_iter} steps" for c in lost]
        scores = _scores(answers, targets, cases, settings)
        chosen = max(scores, key=lambda c: (round(scores[c], 9), -c), default=grid[0])
        inner = answers.get(chosen)
        if inner is not None:
            inner = np.where(_learnt(targets, fold_of)[:, None], inner, np.nan)
    weights = sample_weights(targets, cases, settings.weights)
    offset, scale = standardise(features, weights, settings)
    answer = regress((features - offset) @ scale, targets, weights, chosen, settings.max_iter)
    if answer is None:
        raise ParamsError(
            f"model.probe.max_iter: the logistic regression with C {chosen:g} did not converge in {settings.max_iter} "
            "steps. Set a larger number, or smaller ones in model.probe.C"
        )
    kernel, bias = all_classes(answer, classes)
    return FittedProbe(offset, scale @ kernel, bias, chosen, scores, tuple(notes), inner)


def too_few(targets: Ints, cases: NDArray[np.generic], folds: int) -> str:
    """Say why cases cannot be divided into folds that each leave two classes to learn from; empty where they can."""
    n, counts = len(np.unique(cases)), [len(np.unique(cases[targets == c])) for c in np.unique(targets)]
    if n < folds:
        return f"{count(n, 'case')} in training {'is' if n == 1 else 'are'} fewer than model.probe.folds {folds}"
    return "" if sorted(counts)[-2] > 1 else "only one class has two cases or more"


def sample_weights(targets: Ints, cases: NDArray[np.generic], kind: str) -> Floats:
    """Weigh images so that every class weighs the same, and with 'case' so does every case of a class.

    Returns
    -------
    numpy.ndarray
        (n,), summing to the number of cases: what stands against the penalty is not the number of images.
    """
    weights = np.ones(len(targets))
    if kind == "case":
        weights = 1 / _images_of_case(targets, cases)
    for label in np.unique(targets):
        weights[targets == label] /= weights[targets == label].sum()
    return np.asarray(weights * len(np.unique(cases)) / weights.sum())


def _images_of_case(targets: Ints, cases: NDArray[np.generic]) -> Floats:
    """Count for each image those of its case and class; a case may hold images of two."""
    pairs = np.unique(cases, return_inverse=True)[1] * (targets.max() + 1) + targets
    _, where, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    return counts[where].astype(float)


def grouped_folds(targets: Ints, cases: NDArray[np.generic], folds: int, seed: int) -> Ints:
    """Put each case into the fold with the fewest cases of its class, then of all; rare classes come first.

    Returns
    -------
    numpy.ndarray
        (n,) int, 0 to folds - 1. No fold is empty where there are as many cases. The number of images of a case does
        not count.
    """
    rng = np.random.default_rng(seed)
    names, of_image = np.unique(cases, return_inverse=True)
    votes = np.zeros((len(names), targets.max() + 1))
    np.add.at(votes, (of_image, targets), 1)
    main = votes.argmax(axis=1)
    order = rng.permutation(len(names))
    order = order[np.lexsort((main[order], np.bincount(main)[main[order]]))]
    filled, found = np.zeros((folds, votes.shape[1]), int), np.zeros(len(names), int)
    for case in order:
        fold = min(range(folds), key=lambda f: (filled[f, main[case]], filled[f].sum()))
        filled[fold, main[case]] += 1
        found[case] = fold
    return found[of_image]


def _learnt(targets: Ints, folds: Ints) -> NDArray[np.bool_]:
    """Say of each image whether other folds hold its class too."""
    alone = [label for label in np.unique(targets) if len(np.unique(folds[targets == label])) == 1]
    return ~np.isin(targets, alone)


def _inner_answers(
    features: NDArray[np.floating],
    targets: Ints,
    cases: NDArray[np.generic],
    settings: Probe,
    classes: int,
    fold_of: Ints,
) -> dict[float, Floats]:
    """Answer about left-out cases, pooled over the folds: (n, classes) by C, of those that converged in every fold."""
    given = {c: np.zeros((len(targets), classes)) for c in sorted(set(settings.C))}
    for fold in range(settings.folds):
        inside, outside = fold_of != fold, fold_of == fold
        weights = sample_weights(targets[inside], cases[inside], settings.weights)
        offset, scale = standardise(features[inside], weights, settings)
        known, asked = (features[inside] - offset) @ scale, (features[outside] - offset) @ scale
        for c in list(given):
            answer = regress(known, targets[inside], weights, c, settings.max_iter)
            if answer is None:
                del given[c]
                continue
            kernel, bias = all_classes(answer, classes)
            given[c][outside] = softmax(asked @ kernel + bias)
    return given


def _scores(
    answers: dict[float, Floats], targets: Ints, cases: NDArray[np.generic], settings: Probe
) -> dict[float, float]:
    """Score each C by its macro-F1."""
    from sklearn.metrics import f1_score

    counted = 1 / _images_of_case(targets, cases) if settings.weights == "case" else None
    return {
        c: float(f1_score(targets, given.argmax(axis=1), average="macro", sample_weight=counted, zero_division=0))
        for c, given in answers.items()
    }
