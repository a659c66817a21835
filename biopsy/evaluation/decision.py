"""The decision curve: would acting on the model's probabilities do more good than acting on everybody, or on nobody?

Vickers and Elkin, Medical Decision Making 26(6), 2006.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.figures import by_case
from biopsy.evaluation.operating import scores
from biopsy.evaluation.outcome import Names, Outcome, Undefined, settle

THRESHOLDS = np.arange(1, 40) / 40  # 0.025 to 0.975
TINY = 1e-9


def decision_curve(outcome: Outcome, groups: Names) -> dict[str, Any]:
    """Compute the net benefit of acting by the model, and of always acting, at each threshold probability.

    Parameters
    ----------
    outcome
        Of n test images.
    groups
        (n,) the case of each; where one is an empty string, images are counted instead of cases.

    Returns
    -------
    dict
        Ready for JSON: `unit` ('case' or 'image') and how many there are, `of`; `curve` with `threshold`, `model` and
        `all`, 39 numbers each; never acting has 0 everywhere. `curve` is null, with a reason, where the task names
        no positive classes or the test part has nothing positive or nothing negative.
    """
    known = not (groups == "").any()
    whole = by_case(outcome, groups)[0] if known else outcome
    return settle({"unit": "case" if known else "image", "of": len(whole.truth), "curve": _curve(whole)})


def net_benefit(called: NDArray[np.bool_], positive: NDArray[np.bool_], threshold: float) -> float:
    """Return true positives minus weighted false positives, each as a share of all: at most the share of positives.

    A false positive counts the odds of the threshold: acting from 20 % on accepts four needless actions for one hit.
    """
    hits, alarms = (called & positive).mean(), (called & ~positive).mean()
    return float(hits - alarms * threshold / (1 - threshold))


def better(curve: dict[str, list[float]]) -> list[tuple[float, float]]:
    """List the ranges of neighbouring thresholds at which the model is better than always and than never acting."""
    gain = np.array(curve["model"]) > np.maximum(curve["all"], 0) + TINY
    edges = np.flatnonzero(np.diff(np.concatenate([[0], gain.astype(int), [0]])))
    at = curve["threshold"]
    return [(at[start], at[end - 1]) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _curve(outcome: Outcome) -> dict[str, list[float]] | Undefined:
    if not outcome.positive:
        return Undefined("the task names no positive classes")
    score, positive = scores(outcome)
    if positive.all() or not positive.any():
        return Undefined(f"nothing {'negative' if positive.any() else 'positive'} is in the test part")
    everybody = np.ones(len(score), bool)
    return {
        "threshold": THRESHOLDS.tolist(),
        "model": [net_benefit(score >= t - TINY, positive, t) for t in THRESHOLDS],
        "all": [net_benefit(everybody, positive, t) for t in THRESHOLDS],
    }
