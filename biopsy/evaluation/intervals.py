"""95 % intervals of a test's figures that hold with few cases, and when there are too few for one.

The images of a case are not independent, so cases are the unit. The variance of a figure comes from leaving out one
case at a time within its class (stratified jackknife). With few cases such a variance is itself uncertain, and it is 0
where every case happened to be right. So it is mixed with the variance that cases wholly right or wholly wrong would
have, as one more case per class would weigh. The interval is Wilson's, with the effective number of cases that this
variance stands for and a t quantile with its degrees of freedom. It is the idea of Korn and Graubard (Survey
Methodology 24(2), 1998) for proportions from clustered samples. `benchmarks/coverage.py` measures what it covers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # and not scipy.stats, whose import takes a second

from biopsy.evaluation.jackknife import FIGURES, MACRO, Cases, Floats, Ints, LeftOut, leave_one_out
from biopsy.evaluation.outcome import Undefined

PRIOR = 2.0  # cases per class that the binomial variance weighs
POOL = 3.0  # cases that the assumption 'images of a case are all right or all wrong' weighs
ERRORS = 0.15  # wrong cases that the same assumption weighs: it decides where hardly anything is wrong
FEWEST = 8  # cases for an interval of a figure over all classes
FEWEST_WHOLE = 12  # cases for an interval of a macro figure of whole cases, which takes few values
FEWEST_OF_A_KIND = 6  # positive (negative) cases for an interval of sensitivity (specificity)
PER_CLASS = 2  # cases of each class behind a macro figure; of a class on average behind the other figures of images
TINY = 1e-9


@dataclass(frozen=True)
class Interval:
    """Where a figure would be over new cases with the same mix of classes.

    Attributes
    ----------
    low, high
        0 to 1; the figure itself is between them.
    """

    low: float
    high: float

    @property
    def ends(self) -> list[float]:
        """Both, for JSON."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Design:
    """How s strata make up a figure.

    Attributes
    ----------
    cases
        Of the test set.
    unit
        (s,) the variance that each stratum adds where a case is wholly right or wrong, over p(1 - p): the squared
        weight of the stratum over its effective number of cases (Kish; fewer where some cases have many more images).
    freedom
        (s,) degrees of freedom of each stratum's variance once it is mixed.
    """

    cases: Cases
    unit: Floats
    freedom: Floats

    def variances(self, without: Floats) -> Floats:
        """Compute the jackknife variance that each stratum adds: (n,) values without each case to (s,)."""
        k = self.cases.counts
        apart = without - (self.cases.sums(without) / k)[self.cases.stratum]
        return (k - 1) / k * self.cases.sums(apart**2)

    def satterthwaite(self, variances: Floats) -> float:
        """Compute the degrees of freedom of a sum of (s,) variances (Satterthwaite, Biometrics Bulletin 2, 1946)."""
        return float(variances.sum() ** 2 / (variances**2 / self.freedom).sum())


def clopper_pearson(right: int, n: int, level: float = 0.95) -> Interval:
    """Compute the exact binomial interval (Clopper and Pearson, Biometrika 26(4), 1934).

    Parameters
    ----------
    right
        Successes, 0 to n.
    n
        Trials, at least 1.
    level
        Between 0 and 1.

    Raises
    ------
    ValueError
        The numbers are out of range.
    """
    if not 0 <= right <= n or n < 1:
        raise ValueError(f"right must be 0 to n, and n at least 1. Got {right} of {n}.")
    tail = (1 - level) / 2
    low = float(special.betaincinv(right, n - right + 1, tail)) if right else 0.0
    high = float(special.betaincinv(right + 1, n - right, 1 - tail)) if right < n else 1.0
    return Interval(low, high)


def figure_intervals(
    truth: Ints,
    probabilities: Floats,
    cases: NDArray[np.generic],
    positive: Sequence[int],
    threshold: float = 0.5,
    level: float = 0.95,
) -> dict[str, Interval | Undefined]:
    """Compute the interval of each figure over new cases.

    Parameters
    ----------
    truth
        (n,) int, index of a class. Rows are images, or cases with their mean probabilities for the figures of cases.
    probabilities
        (n, c), 0 to 1.
    cases
        (n,) the case of each row, of any type that sorts.
    positive
        The positive (malignant) classes.
    threshold
        Operating point on the probability of being positive; with more than two classes the largest one is chosen.
    level
        Between 0 and 1.

    Returns
    -------
    dict
        `accuracy`, `macro_f1`, `balanced_accuracy`, `roc_auc` (of the second of two classes, or the mean of one class
        against the rest), `sensitivity`, `specificity`; `Undefined` with its reason where there are too few cases. It
        does not depend on the order of the rows or the names of the cases, and nothing in it is random.
    """
    found, figures = leave_one_out(truth, probabilities, cases, positive, threshold)
    pooled = _design_effect(found, figures["accuracy"])
    result: dict[str, Interval | Undefined] = {}
    for name in FIGURES:
        few = too_few(found, name)
        if few:
            result[name] = few
        elif found.images.max() == 1 and name not in MACRO:
            n = int(found.counted(name).sum())
            result[name] = clopper_pearson(round(figures[name].estimate * n), n, level)
        else:
            result[name] = _interval(design(found, name), figures[name], pooled, level)
    return result


def too_few(cases: Cases, name: str) -> Undefined | None:
    """Say why a figure has no interval, or return None where `benchmarks/coverage.py` shows that its interval holds.

    Parameters
    ----------
    cases
        Of the test set.
    name
        One of `FIGURES`.
    """
    kind = {"sensitivity": "positive cases", "specificity": "negative cases"}.get(name, "cases")
    behind = cases.counted(name) * 2 > cases.images
    counts = np.bincount(cases.stratum[behind])
    fewest = FEWEST if kind == "cases" else FEWEST_OF_A_KIND
    fewest = FEWEST_WHOLE if name in MACRO and cases.images.max() == 1 else fewest
    if behind.sum() < fewest:
        tested = f"{behind.sum()} {kind} are" if behind.sum() != 1 else f"1 {kind.removesuffix('s')} is"
        return Undefined(f"too few cases: {tested} tested, an interval needs {fewest}")
    if name not in MACRO:
        needed = PER_CLASS * np.count_nonzero(counts)
        if cases.images.max() == 1 or behind.sum() >= needed:
            return None
        return Undefined(
            f"too few cases: {behind.sum()} {kind} are tested, an interval over their classes needs {needed}"
        )
    if len(cases.tested) == 1:
        return Undefined("only one class is tested")
    least = min((cases.stratum[behind] == s).sum() for s in range(len(cases.classes)))
    least = least if len(cases.classes) == len(cases.tested) else 0
    if least < PER_CLASS:
        return Undefined(f"too few cases: one class has {least}, an interval needs {PER_CLASS} of each class")
    return None


def design(cases: Cases, name: str) -> Design:
    """Describe how the strata make up a figure, one of `FIGURES`."""
    share = np.full(len(cases.classes), 1 / len(cases.classes))
    if name not in MACRO:
        images = cases.sums(cases.counted(name))
        share = images / images.sum()
    effective = cases.sums(cases.images) ** 2 / cases.sums(cases.images**2)
    return Design(cases, share**2 / effective, cases.counts - 1 + PRIOR)


def _design_effect(cases: Cases, accuracy: LeftOut) -> float:
    """Compare the spread of accuracy over cases with that of cases wholly right or wrong: 0 to 1.

    1 is the safe assumption; the data of all classes together speak against it.
    """
    spread = accuracy.estimate * (1 - accuracy.estimate)
    if spread < TINY or cases.images.max() == 1:
        return 1.0
    shape, k = design(cases, "accuracy"), cases.counts
    seen = shape.variances(accuracy.without) / shape.unit / spread
    return float(min(1.0, ((k - 1) @ seen + POOL) / ((k - 1).sum() + POOL)))


def _interval(shape: Design, figure: LeftOut, pooled: float, level: float) -> Interval:
    """Mix the variance of each stratum with the binomial one, and turn their sum into an interval."""
    p, n = figure.estimate, float(1 / shape.unit.sum())
    spread = p * (1 - p)
    if spread < TINY:
        return wilson(p, n, float(shape.freedom[shape.unit > 0].sum()), level)
    seen = (shape.freedom - PRIOR) * shape.variances(figure.without)
    mixed = (seen + PRIOR * pooled * spread * shape.unit) / shape.freedom
    effect = mixed.sum() * n / spread
    effect = (n * spread * effect + ERRORS) / (n * spread + ERRORS)
    return wilson(p, n / effect, shape.satterthwaite(mixed), level)


def wilson(p: float, n: float, freedom: float = np.inf, level: float = 0.95) -> Interval:
    """Compute Wilson's interval (JASA 22, 1927) of a proportion p of n, with a t quantile."""
    ratio = float(special.stdtrit(freedom, (1 + level) / 2)) ** 2 / n
    middle = (p + ratio / 2) / (1 + ratio)
    half = float(np.sqrt(ratio * (p * (1 - p) + ratio / 4))) / (1 + ratio)
    low, high = min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half))
    return Interval(float(low), float(high))
