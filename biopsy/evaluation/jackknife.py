"""Figures of a test set with one case left out at a time, and how far each class of case moves them.

A case is drawn within its class, so leaving one out raises the weight of the other cases of that class and keeps the
mix of classes. All averages are over all tested classes every time. Nothing is drawn at random.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int_]
MACRO = ("macro_f1", "balanced_accuracy", "roc_auc")
FIGURES = ("accuracy", *MACRO, "sensitivity", "specificity")


@dataclass(frozen=True)
class Cases:
    """What is counted of n cases and s strata; a stratum is a class together with the cases that belong to it.

    Attributes
    ----------
    stratum
        (n,) int, 0 to s - 1: the class of most of a case's images, the first of them where two tie.
    classes
        (s,) int, the class of each stratum, ascending.
    images
        (n,) images of each case.
    positive
        (n,) images of each case that are of a positive class.
    tested
        The classes that the truth holds, ascending; those without a stratum are the main class of no case.
    """

    stratum: Ints
    classes: Ints
    images: Floats
    positive: Floats
    tested: Ints

    @property
    def counts(self) -> Ints:
        """(s,) int, cases of each stratum."""
        return np.bincount(self.stratum, minlength=len(self.classes))

    def counted(self, name: str) -> Floats:
        """(n,) images of each case that accuracy, sensitivity or specificity counts."""
        return {"sensitivity": self.positive, "specificity": self.images - self.positive}.get(name, self.images)

    def sums(self, values: Floats) -> Floats:
        """Sum (n, ...) values over the cases of each stratum: (s, ...)."""
        total = np.zeros((len(self.classes), *values.shape[1:]))
        np.add.at(total, self.stratum, values)
        return total


@dataclass(frozen=True)
class LeftOut:
    """A figure, and its value with each case left out.

    Attributes
    ----------
    estimate
        The figure on all cases; not a number where the data do not define it.
    without
        (n,) the figure without each case. The only case of a stratum cannot be left out: there it is the estimate.
    """

    estimate: float
    without: Floats


def count_cases(truth: Ints, cases: NDArray[np.generic], positive: Sequence[int]) -> tuple[Cases, Ints]:
    """Find each case's stratum.

    Parameters
    ----------
    truth
        (n,) int, the class of each image.
    cases
        (n,) the case of each image, of any type that sorts.
    positive
        The classes that count as positive (malignant).

    Returns
    -------
    tuple
        The cases, and (n,) int, the row among them of each image.
    """
    _, index = np.unique(cases, return_inverse=True)
    of_class = np.zeros((index.max() + 1, truth.max() + 1))
    np.add.at(of_class, (index, truth), 1)
    classes, stratum = np.unique(of_class.argmax(1), return_inverse=True)
    malignant = of_class[:, [c for c in positive if c < of_class.shape[1]]].sum(1)
    return Cases(stratum, classes, of_class.sum(1), malignant, np.unique(truth)), index


def leave_one_out(
    truth: Ints, probabilities: Floats, cases: NDArray[np.generic], positive: Sequence[int], threshold: float
) -> tuple[Cases, dict[str, LeftOut]]:
    """Compute every figure on all cases and without each of them.

    Parameters
    ----------
    truth
        (n,) int, index of a class.
    probabilities
        (n, c), 0 to 1.
    cases
        (n,) the case of each image.
    positive
        The positive classes; of more than two classes sensitivity and specificity sum their probabilities.
    threshold
        Operating point on that sum; of two classes on the probability of the second, as in `Outcome`.

    Returns
    -------
    tuple
        The cases, and a dict of `FIGURES`.
    """
    found, index = count_cases(truth, cases, positive)
    width = probabilities.shape[1]
    chosen = (probabilities[:, 1] >= threshold).astype(int) if width == 2 else probabilities.argmax(1)
    confusion = _per_case(index, truth, chosen, width)
    # of two classes as they are called: at a tie the second one, whichever is positive
    called = np.isin(chosen, positive) if width == 2 else probabilities[:, sorted(positive)].sum(1) >= threshold
    calls = _per_case(index, np.isin(truth, positive).astype(int), called.astype(int), 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            "accuracy": _left_out(found, confusion, lambda m: np.trace(m, axis1=1, axis2=2) / m.sum((1, 2))),
            "macro_f1": _left_out(found, confusion, lambda m: _f1(m)[:, found.tested].mean(1)),
            "balanced_accuracy": _left_out(found, confusion, lambda m: _recall(m)[:, found.tested].mean(1)),
            "sensitivity": _left_out(found, calls, lambda m: _recall(m)[:, 1]),
            "specificity": _left_out(found, calls, lambda m: _recall(m)[:, 0]),
        }
        curves = [1] if width == 2 else found.tested
        areas = [_area(found, index, truth == c, probabilities[:, c]) for c in curves]
    area = LeftOut(float(np.mean([a.estimate for a in areas])), np.mean([a.without for a in areas], 0))
    return found, {**figures, "roc_auc": area}


def _per_case(index: Ints, truth: Ints, chosen: Ints, width: int) -> Floats:
    """Count a confusion matrix per case: (cases, width, width)."""
    flat = np.bincount((index * width + truth) * width + chosen, minlength=(index.max() + 1) * width * width)
    return flat.reshape(-1, width, width).astype(float)


def _recall(matrices: Floats) -> Floats:
    return np.diagonal(matrices, axis1=1, axis2=2) / matrices.sum(2)


def _f1(matrices: Floats) -> Floats:
    return 2 * np.diagonal(matrices, axis1=1, axis2=2) / (matrices.sum(1) + matrices.sum(2))


def _left_out(cases: Cases, matrices: Floats, figure: Callable[[Floats], Floats]) -> LeftOut:
    """Apply a figure of confusion matrices to all cases and without each: (n, c, c) to n values."""
    total, of_stratum, k = matrices.sum(0), cases.sums(matrices), cases.counts
    more = (k / np.maximum(k - 1, 1) - 1)[cases.stratum]
    own = of_stratum[cases.stratum]
    without = total + more[:, None, None] * own - (1 + more)[:, None, None] * matrices
    alone = (k == 1)[cases.stratum]
    without[alone] = total
    return LeftOut(float(figure(total[None])[0]), figure(without))


def _area(cases: Cases, index: Ints, positive: NDArray[np.bool_], score: Floats) -> LeftOut:
    """Compute the area under the ROC curve on all cases and without each, from one sort.

    Won pairs are counted between each case and each stratum; with one case left out the weights of its stratum change,
    so the sum over all pairs of cases follows from these counts.
    """
    n, s, k = len(cases.stratum), len(cases.classes), cases.counts
    ranks = np.unique(score, return_inverse=True)[1]
    stratum = cases.stratum[index]
    beats, beaten = np.zeros((n, s)), np.zeros((n, s))
    for d in range(s):
        lower = _below(ranks, ranks[~positive & (stratum == d)])
        upper = _below(-ranks + ranks.max(), -ranks[positive & (stratum == d)] + ranks.max())
        beats[:, d] = np.bincount(index[positive], lower[positive], n)
        beaten[:, d] = np.bincount(index[~positive], upper[~positive], n)
    ours, theirs = np.bincount(index[positive], minlength=n), np.bincount(index[~positive], minlength=n)
    within = np.zeros(n)
    for case in np.flatnonzero((ours > 0) & (theirs > 0)):
        here = index == case
        within[case] = _below(ranks[here & positive], ranks[here & ~positive]).sum()
    pairs, rows = cases.sums(beats), np.arange(n)
    c, r = cases.stratum, (k / np.maximum(k - 1, 1))[cases.stratum]
    whole = pairs.sum() + (r - 1) * (pairs.sum(1) + pairs.sum(0))[c] + (r - 1) ** 2 * np.diagonal(pairs)[c]
    lost = (beats + beaten).sum(1) + (r - 1) * (beats + beaten)[rows, c]
    won = whole - r * lost + r**2 * within
    present, absent = (x.sum() + (r - 1) * cases.sums(x * 1.0)[c] - r * x for x in (ours, theirs))
    estimate = float(pairs.sum() / (ours.sum() * theirs.sum())) if ours.any() and theirs.any() else float("nan")
    return LeftOut(estimate, np.where((k == 1)[c], estimate, won / (present * absent)))


def _below(ranks: Ints, others: Ints) -> Floats:
    """Count how many of the others are below each rank, a tie as half."""
    others = np.sort(others)
    return 0.5 * (np.searchsorted(others, ranks, "left") + np.searchsorted(others, ranks, "right"))
