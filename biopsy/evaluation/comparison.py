"""Two models on the same cases: is one better, and what difference could so few cases have shown?

Both models answer on the same images, so the difference is taken with each case left out, within its class, and its
variance follows from that. Where two models happen to agree on every case this variance is 0; so it is mixed with that
of one discordant case more in each direction (as Agresti and Min, Biometrics 61(2), 2005, add for matched pairs).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # and not scipy.stats, whose import takes a second

from biopsy.evaluation.intervals import PRIOR, Interval, design, too_few
from biopsy.evaluation.jackknife import FIGURES, Cases, Floats, Ints, LeftOut, leave_one_out
from biopsy.evaluation.outcome import Undefined

LEVEL, POWER = 0.95, 0.8


@dataclass(frozen=True)
class Difference:
    """How much higher the second model's figure is than the first one's.

    Attributes
    ----------
    first, second
        The figure of either model, 0 to 1.
    interval
        The 95 % interval of the difference over new cases with the same mix of classes, -1 to 1.
    smallest
        The smallest true difference that a test on these cases shows four times in five, 0 to 1.
    """

    first: float
    second: float
    interval: Interval
    smallest: float

    @property
    def estimate(self) -> float:
        """Second minus first, -1 to 1."""
        return self.second - self.first

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.interval.low <= 0 <= self.interval.high

    def verdict(self, name: str) -> str:
        """Say in one sentence what the cases show of a figure, which is called `name` in it."""
        held = f"{self.estimate:+.3f}, 95 % interval {self.interval.low:+.3f} to {self.interval.high:+.3f}"
        if self.shown:
            return f"The second model's {name} is {'higher' if self.estimate > 0 else 'lower'} ({held})."
        return f"No difference in {name} is shown ({held}); these cases could have shown one of {self.smallest:.2f}."


@dataclass(frozen=True)
class DeLong:
    """Two areas under the ROC curve, compared on cases.

    Attributes
    ----------
    first, second
        The areas, 0 to 1.
    error
        Standard error of their difference, 0 or more.
    p_value
        Two-sided; 1 where the areas are equal.
    """

    first: float
    second: float
    error: float
    p_value: float


def paired_difference(
    truth: Ints,
    first: Floats,
    second: Floats,
    cases: NDArray[np.generic],
    positive: Sequence[int],
    threshold: float | tuple[float | Floats, float | Floats] = 0.5,
) -> dict[str, Difference | Undefined]:
    """Compare two models on the same images, figure by figure.

    Parameters
    ----------
    truth
        (n,) int, index of a class.
    first, second
        (n, c) probabilities of the two models, rows in the order of `truth`; or (r, n, c), of r repeats of a
        cross-validation or of r seeds, over which every figure is averaged.
    cases
        (n,) the case of each row.
    positive
        The positive (malignant) classes.
    threshold
        Operating point of both, or of each; or (r,) of each, one a repeat.

    Returns
    -------
    dict
        The same figures as `figure_intervals`, and `Undefined` for the same reasons.

    Raises
    ------
    ValueError
        The two models did not answer on the same rows and classes.
    """
    if first.shape != second.shape or first.shape[-2] != len(truth):
        raise ValueError(f"Both models must answer on the same rows. Got {first.shape} and {second.shape}.")
    one, other = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    found, before = _averaged(truth, first, cases, positive, one)
    _, after = _averaged(truth, second, cases, positive, other)
    result: dict[str, Difference | Undefined] = {}
    for name in FIGURES:
        few = too_few(found, name)
        if few:
            result[name] = few
            continue
        shape = design(found, name)
        seen = shape.variances(after[name].without - before[name].without)
        pair = before[name].estimate, after[name].estimate
        estimate = pair[1] - pair[0]
        n = 1 / shape.unit.sum()
        discordant = (n * estimate**2 + 1) / (n + 2)
        mixed = ((shape.freedom - PRIOR) * seen + PRIOR * discordant * shape.unit) / shape.freedom
        if found.images.max() == 1:  # a case is right or wrong: the discordant ones may be few, or none by chance
            mixed += shape.unit / (n + 2)
        result[name] = _difference(pair, float(np.sqrt(mixed.sum())), shape.satterthwaite(mixed))
    return result


def _averaged(
    truth: Ints, given: Floats, cases: NDArray[np.generic], positive: Sequence[int], threshold: float | Floats
) -> tuple[Cases, dict[str, LeftOut]]:
    """Compute the figures as `leave_one_out` does; of (r, n, c) probabilities their means over the repeats."""
    answers = given if given.ndim == 3 else given[np.newaxis]
    points = np.broadcast_to(threshold, len(answers))
    repeats = [leave_one_out(truth, one, cases, positive, float(at)) for one, at in zip(answers, points, strict=True)]
    each = {name: [figures[name] for _, figures in repeats] for name in FIGURES}
    means = {
        name: LeftOut(float(np.mean([f.estimate for f in found])), np.mean([f.without for f in found], axis=0))
        for name, found in each.items()
    }
    return repeats[0][0], means


def _difference(pair: tuple[float, float], error: float, freedom: float) -> Difference:
    quantile, estimate = float(special.stdtrit(freedom, (1 + LEVEL) / 2)), pair[1] - pair[0]
    low, high = max(-1.0, estimate - quantile * error), min(1.0, estimate + quantile * error)
    return Difference(*pair, Interval(low, high), min(1.0, (quantile + float(special.stdtrit(freedom, POWER))) * error))


def delong(truth: NDArray[np.bool_], first: Floats, second: Floats) -> DeLong:
    """Compare two areas under the ROC curve (DeLong, DeLong and Clarke-Pearson, Biometrics 44(3), 1988).

    It needs independent rows, so give it one score per case, never images (Obuchowski, Biometrics 53(2), 1997). With
    few cases its normal approximation is too sure of itself; `paired_difference` is the figure to report.

    Parameters
    ----------
    truth
        (n,) bool, the positive cases; at least two of each kind.
    first, second
        (n,) scores of the two models.

    Raises
    ------
    ValueError
        There are fewer than two positive or negative cases.
    """
    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong's test needs two positive and two negative cases. Got {m} and {n}.")
    placed = [_placements(truth, score) for score in (first, second)]
    areas = [float(p.mean()) for p, _ in placed]
    ours, theirs = (placed[1][side] - placed[0][side] for side in (0, 1))
    error = float(np.sqrt(ours.var(ddof=1) / m + theirs.var(ddof=1) / n))
    apart = areas[1] - areas[0]
    p_value = float(2 * special.ndtr(-abs(apart) / error)) if error > 0 else float(apart == 0)
    return DeLong(areas[0], areas[1], error, p_value)


def _placements(truth: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Give each positive the share of negatives below it, and each negative the share of positives above it."""
    every = _ranks(score)
    m, n = truth.sum(), (~truth).sum()
    below = (every[truth] - _ranks(score[truth])) / n
    above = 1 - (every[~truth] - _ranks(score[~truth])) / m
    return below, above


def _ranks(score: Floats) -> Floats:
    """Rank scores (n,) from 1; equal ones share the mean of their ranks."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    return np.asarray((count.cumsum() - (count - 1) / 2)[place])
