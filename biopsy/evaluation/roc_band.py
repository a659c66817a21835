"""How sure an ROC curve is: the interval of its height at each threshold, over new cases."""

import numpy as np
import pandas as pd

from biopsy.evaluation.figures import LEVEL, NO_CASES
from biopsy.evaluation.intervals import Interval, figure_intervals
from biopsy.evaluation.outcome import DIGITS, Names, Outcome, Undefined

THRESHOLDS = 40  # at most; between them the band is drawn in straight lines


def roc_band(outcome: Outcome, cases: Names) -> pd.DataFrame | Undefined:
    """Compute the 95 % interval of the true positive rate at thresholds along the curve.

    It is the interval of a sensitivity, which holds at one threshold, not along the whole curve at once; it does not
    show how uncertain the false positive rate is. `benchmarks/coverage.py` measures it: over the thresholds of a curve
    at least .95; at the ends, of models that are wrong on whole cases, .87.

    Parameters
    ----------
    outcome
        Of n images and two classes; the curve is that of the second.
    cases
        (n,) the case of each image; an empty string where it is not known.

    Returns
    -------
    pandas.DataFrame or Undefined
        `threshold`, `fpr`, `low`, `high`, in the order of the curve; or why there is no band. `low` and `high` never
        fall, as a true curve never does.
    """
    if len(outcome.classes) != 2:
        return Undefined("bands of several classes would hide one another")
    if (cases == "").any():
        return Undefined(NO_CASES)
    truth, scores = (outcome.truth == 1).astype(int), outcome.probabilities[:, 1]
    if not 0 < truth.sum() < len(truth):
        return Undefined(f"the test set has no {outcome.classes[int(not truth.any())]}")
    rows, known = [], np.unique(scores)[::-1]
    for threshold in known[np.unique(np.linspace(0, len(known) - 1, THRESHOLDS).round().astype(int))]:
        found = figure_intervals(truth, outcome.probabilities, cases, [1], float(threshold), LEVEL)["sensitivity"]
        if not isinstance(found, Interval):
            return found
        rows.append((threshold, (scores[truth == 0] >= threshold).mean(), found.low, found.high))
    band = pd.DataFrame(rows, columns=["threshold", "fpr", "low", "high"])
    return band.assign(low=band["low"].cummax(), high=band["high"][::-1].cummin()[::-1]).round(DIGITS)
