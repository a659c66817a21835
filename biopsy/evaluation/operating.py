"""The operating point: from which score on to call an image, or a case, positive, so that few positives are missed.

The threshold is chosen on validation images and reported on test images; a threshold that is chosen where it is tested
promises too much.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.figures import LEVEL, NO_CASES, by_case
from biopsy.evaluation.intervals import Interval, clopper_pearson, figure_intervals
from biopsy.evaluation.outcome import DIGITS, Names, Outcome, settle


def operating_points(val: tuple[Outcome, Names], test: tuple[Outcome, Names], sensitivity: float) -> dict[str, Any]:
    """Choose a threshold for images and one for cases, and say what each does on the test part.

    Parameters
    ----------
    val, test
        Outcome of n images, and the case of each, (n,); an empty string where it is not known.
    sensitivity
        At least this share of the positive validation images (or cases) must be called positive.

    Returns
    -------
    dict
        Ready for JSON: `wanted`, and `image` and `case`, each with `threshold`, and for `val` and `test` of
        `sensitivity` and `specificity` `{right, of, share, interval}`; or a `reason` instead.
    """
    found: dict[str, Any] = {"wanted": sensitivity}
    if not test[0].positive:
        return {**found, "reason": "the task names no positive classes (labels.tasks.<task>.positive)"}
    found["image"] = _point(val[0], test[0], sensitivity)
    if "reason" not in found["image"]:
        _put_intervals(found["image"]["test"], *test, found["image"]["threshold"])
    if any((groups == "").any() for _, groups in (val, test)):
        return {**found, "case": {"reason": NO_CASES}}
    found["case"] = _point(by_case(*val)[0], by_case(*test)[0], sensitivity)
    _put_exact(found["case"].get("test", {}))
    return found


def tried_points(chosen: Mapping[str, Any], test: tuple[Outcome, Names]) -> dict[str, Any]:
    """Say what thresholds that were chosen before do on other images: `chosen` and the result as `operating_points`."""
    found: dict[str, Any] = {"wanted": chosen["wanted"]}
    if "reason" in chosen:
        return {**found, "reason": chosen["reason"]}
    found |= {unit: dict(chosen[unit]) for unit in ("image", "case")}
    if "reason" not in found["image"]:
        found["image"]["test"] = _counts(*scores(test[0]), found["image"]["threshold"])
        _put_intervals(found["image"]["test"], *test, found["image"]["threshold"])
    if "reason" not in found["case"]:
        found["case"]["test"] = _counts(*scores(by_case(*test)[0]), found["case"]["threshold"])
        _put_exact(found["case"]["test"])
    return found


def scores(outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the probability of being positive, (n,), and whether it is, (n,).

    Rounded to six decimals, so that a written threshold still finds the image that it was taken from.
    """
    columns = [i for i, name in enumerate(outcome.classes) if name in outcome.positive]
    return outcome.probabilities[:, columns].sum(1).round(DIGITS), np.isin(outcome.truth, columns)


def choose_threshold(score: NDArray[np.float64], positive: NDArray[np.bool_], sensitivity: float) -> float:
    """Return the largest threshold at which at least this share of the positives has a score that reaches it."""
    ranked = np.sort(score[positive])
    missed = int(np.floor(len(ranked) * (1 - sensitivity) + 1e-9))
    return float(ranked[missed])


def _point(val: Outcome, test: Outcome, sensitivity: float) -> dict[str, Any]:
    score, positive = scores(val)
    if not positive.any() or positive.all():
        return {"reason": f"nothing {'negative' if positive.any() else 'positive'} is in the validation part"}
    if np.ptp(score) < 1e-9:
        return {"reason": "the model gives every validation image the same probability"}
    threshold = choose_threshold(score, positive, sensitivity)
    return {
        "threshold": threshold,
        "val": _counts(score, positive, threshold),
        "test": _counts(*scores(test), threshold),
    }


def _counts(score: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    called = score >= threshold
    pairs = {"sensitivity": called[positive], "specificity": ~called[~positive]}
    return {
        name: {
            "right": int(right.sum()),
            "of": len(right),
            "share": round(float(right.mean()), DIGITS) if len(right) else None,
        }
        for name, right in pairs.items()
    }


def _put_exact(figures: dict[str, Any]) -> None:
    """Add the intervals of cases."""
    for figure in figures.values():
        if figure["of"]:
            figure["interval"] = settle(clopper_pearson(figure["right"], figure["of"], LEVEL).ends)


def _put_intervals(figures: dict[str, Any], test: Outcome, groups: Names, threshold: float) -> None:
    """Add the intervals of images over new cases: an exact one of images would take those of a case as independent."""
    if (groups == "").any():
        for figure in figures.values():
            figure["reason"] = NO_CASES
        return
    score, positive = scores(test)
    as_two = np.stack([1 - score, score], 1)
    found = figure_intervals(positive.astype(int), as_two, groups, [1], threshold, LEVEL)
    for name, figure in figures.items():
        value = found[name]
        if isinstance(value, Interval):
            figure["interval"] = settle(value.ends)
        else:
            figure["reason"] = value.reason
