"""Abstention: how wrong the model is where it is surest, and from which confidence on to let it answer.

The confidence of an image, or of a case, is its largest calibrated probability. The threshold is chosen on validation
images and reported on test images.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.figures import LEVEL, NO_CASES, by_case
from biopsy.evaluation.intervals import Interval, clopper_pearson, figure_intervals
from biopsy.evaluation.outcome import DIGITS, Names, Outcome, Undefined, settle
from biopsy.evaluation.records import STEPS

FEWEST = 10  # validation cases for a rule
FEWEST_ANSWERED = 5  # cases that the rule must answer on validation; without answers there is no error


def describe_abstention(val: tuple[Outcome, Names], test: tuple[Outcome, Names], target: float) -> dict[str, Any]:
    """Compute the risk-coverage curve of the test part, and a rule that answers only where the model is sure.

    Parameters
    ----------
    val, test
        Outcome of n images, and the case of each, (n,); an empty string where it is not known.
    target
        The share of wrong answers, 0 to 1, that the rule may give on validation.

    Returns
    -------
    dict
        Ready for JSON: `target`, and `image` and `case`, each with

        - `risk`: 20 error rates, of the surest 5 %, 10 %, ... 100 % of the test part;
        - `area`: their area, the mean error over all shares (AURC; Geifman and El-Yaniv, NeurIPS 2017), and
          `area_best`, that of a model with the same errors that is least sure of these; `error` is that of a
          random order;
        - `rule`: the `threshold` on the confidence, and for `val` and `test` how many are `answered` `of` all and
          `wrong`; of the test part also `cases` among the answered, `share` answered, and `error` with its `interval`
          over cases. Null, with a reason, if no rule can be set.
    """
    unknown = any((groups == "").any() for _, groups in (val, test))
    found: dict[str, Any] = {"target": target, "image": _describe(val, test, target, whole=False)}
    if unknown:
        return settle({**found, "case": Undefined(NO_CASES)})
    whole_val, whole_test = ((whole, _names(whole)) for whole in (by_case(*val)[0], by_case(*test)[0]))
    return settle({**found, "case": _describe(whole_val, whole_test, target, whole=True)})


def confidence(outcome: Outcome) -> NDArray[np.float64]:
    """Return the largest probability of each image, (n,), in six decimals, so that a threshold can be written down."""
    return outcome.probabilities.max(1).round(DIGITS)


def risk_curve(wrong: NDArray[np.bool_], sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the error rate of the surest one, two, ... n: (n,).

    Images with equal confidence each count as their mean, so that the order of the rows does not matter.
    """
    _, place = np.unique(-sure, return_inverse=True)
    expected = np.repeat(np.bincount(place, wrong) / np.bincount(place), np.bincount(place))
    return np.cumsum(expected) / np.arange(1, len(wrong) + 1)


def choose_confidence(outcome: Outcome, groups: Names, target: float) -> float | Undefined:
    """Return the smallest confidence at or above which at most this share of the answers is wrong."""
    if (groups == "").any():
        return Undefined("there are validation images whose case is not known")
    if (n := len(np.unique(groups))) < FEWEST:
        return Undefined(f"too few cases: validation has {n}, a rule needs {FEWEST}")
    sure = confidence(outcome)
    order = np.argsort(-sure, kind="stable")
    wrong = np.cumsum((outcome.predicted != outcome.truth)[order])
    first = np.zeros(len(sure), bool)
    first[np.unique(groups[order], return_index=True)[1]] = True
    ends = np.append(np.diff(sure[order]) < 0, True)  # all that are equally sure are answered, or none of them
    met = ends & (wrong <= target * np.arange(1, len(sure) + 1) + 1e-9) & (np.cumsum(first) >= FEWEST_ANSWERED)
    if not met.any():
        return Undefined(
            f"validation does not reach an error of {target:g} on any share that has {FEWEST_ANSWERED} cases or more"
        )
    return float(sure[order][np.flatnonzero(met)[-1]])


def _names(whole: Outcome) -> Names:
    """Name whole cases by their place, each its own unit."""
    return np.arange(len(whole.truth)).astype(str)


def _describe(val: tuple[Outcome, Names], test: tuple[Outcome, Names], target: float, *, whole: bool) -> dict[str, Any]:
    outcome, n = test[0], len(test[0].truth)
    wrong = outcome.predicted != outcome.truth
    curve = risk_curve(wrong, confidence(outcome))
    kept = [int(np.ceil(n * step / STEPS - 1e-9)) for step in range(1, STEPS + 1)]
    threshold = choose_confidence(*val, target)
    rule: dict[str, Any] | Undefined
    if isinstance(threshold, Undefined):
        rule = threshold
    else:
        answered = _answered(*val, threshold)
        about = {key: answered[key] for key in ("answered", "of", "wrong")}
        tested = _answered(*test, threshold)
        tested |= _error(test, threshold, tested, whole=whole)
        rule = {"threshold": threshold, "val": about, "test": tested}
    return {
        "error": float(wrong.mean()),
        "area": float(curve.mean()),
        "area_best": float(risk_curve(wrong, 1.0 - wrong).mean()),
        "risk": [float(curve[k - 1]) for k in kept],
        "rule": rule,
    }


def _answered(outcome: Outcome, groups: Names, threshold: float) -> dict[str, Any]:
    kept = confidence(outcome) >= threshold
    wrong = (outcome.predicted != outcome.truth)[kept]
    return {
        "answered": int(kept.sum()),
        "of": len(kept),
        "share": float(kept.mean()),
        "wrong": int(wrong.sum()),
        "cases": Undefined(NO_CASES) if (groups == "").any() else len(np.unique(groups[kept])),
    }


def _error(test: tuple[Outcome, Names], threshold: float, counts: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Compute the error among the answered: an exact interval of whole cases, and of images one over new cases."""
    if not counts["answered"]:
        nothing = Undefined("nothing in the test part is sure enough")
        return {"error": nothing, "interval": nothing}
    error: dict[str, Any] = {"error": counts["wrong"] / counts["answered"]}
    if whole:
        return {**error, "interval": clopper_pearson(counts["wrong"], counts["answered"], LEVEL).ends}
    if isinstance(counts["cases"], Undefined):
        return {**error, "interval": counts["cases"]}
    kept = confidence(test[0]) >= threshold
    part, groups = test[0][kept], test[1][kept]
    positive = [part.classes.index(name) for name in part.positive]
    right = figure_intervals(part.truth, part.probabilities, groups, positive, part.threshold, LEVEL)["accuracy"]
    return {**error, "interval": [1 - right.high, 1 - right.low] if isinstance(right, Interval) else right}
