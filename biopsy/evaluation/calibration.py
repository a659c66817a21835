"""Do the probabilities hold: of the images that are called 80 % malignant, are 80 % malignant?"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.intervals import wilson
from biopsy.evaluation.outcome import Names, Outcome, log_loss
from biopsy.networks.temperature import Calibration, calibrate

BINS = 10


def stated(outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what is stated of each image, (n,) 0 to 1, and whether it came true, (n,).

    With two classes, that is the probability of the second; with more, that of the most probable class.
    """
    if len(outcome.classes) == 2:
        return outcome.probabilities[:, 1], outcome.truth == 1
    return outcome.probabilities.max(1), outcome.probabilities.argmax(1) == outcome.truth


def reliability(outcome: Outcome, groups: Names) -> list[dict[str, Any]]:
    """Compare what is stated with what came true, in ten bins of equal width; empty ones are left out.

    Parameters
    ----------
    outcome
        Of n images.
    groups
        (n,) the case of each; an empty string where it is not known, and then each image counts by itself.

    Returns
    -------
    list of dict
        `stated` (mean), `true` (share), `images`, `cases`, and `low` and `high`, Wilson's interval with the cases as
        its count: the images of one case are not independent, so that images would make it too narrow.
    """
    probability, came_true = stated(outcome)
    places = np.minimum((probability * BINS).astype(int), BINS - 1)
    rows = []
    for place in np.unique(places):
        chosen = places == place
        units = groups[chosen]
        known = bool((units != "").all())
        n = len(np.unique(units)) if known else int(chosen.sum())
        share = float(came_true[chosen].mean())
        interval = wilson(share, n)
        row = {"stated": float(probability[chosen].mean()), "true": share, "images": int(chosen.sum())}
        rows.append({**row, "cases": n if known else None, "low": interval.low, "high": interval.high})
    return rows


def calibration_figures(outcome: Outcome) -> dict[str, float]:
    """Compute how far the probabilities are off.

    Returns
    -------
    dict
        `ece`: expected calibration error, the mean distance of stated and true over the bins, weighted by images
        (Naeini et al., AAAI 2015). `brier`: mean squared error, 0 to 1 of two classes, 0 to 2 of more. `log_loss`.
    """
    rows = reliability(outcome, np.full(len(outcome.truth), "", np.str_))
    n = len(outcome.truth)
    squares = ((outcome.probabilities - np.eye(len(outcome.classes))[outcome.truth]) ** 2).sum(1).mean()
    return {
        "ece": sum(row["images"] * abs(row["stated"] - row["true"]) for row in rows) / n,
        "brier": float(squares) / (2 if len(outcome.classes) == 2 else 1),
        "log_loss": log_loss(outcome),
    }


def describe_calibration(outcome: Outcome, temperatures: NDArray[np.float64]) -> dict[str, Any]:
    """Compute these figures as the model gives its probabilities (`after`) and as it would without temperature.

    Parameters
    ----------
    outcome
        Of n images, calibrated.
    temperatures
        (n,) that of the model that answered about each.
    """
    return {"before": calibration_figures(uncalibrated(outcome, temperatures)), "after": calibration_figures(outcome)}


def uncalibrated(outcome: Outcome, temperatures: NDArray[np.float64]) -> Outcome:
    """Undo the temperature of each image: (n,)."""
    given = outcome.probabilities.copy()
    for temperature in np.unique(temperatures):
        rows = temperatures == temperature
        given[rows] = calibrate(given[rows], 1 / float(temperature))
    return replace(outcome, probabilities=given)


def describe_fit(calibration: Calibration | None, temperature: float) -> dict[str, Any]:
    """Say how a model's temperature came about, ready for JSON."""
    if calibration is None:
        return {"temperature": temperature, "reason": "made by a version that did not calibrate"}
    return {"temperature": temperature, **calibration.model_dump(exclude_none=True)}
