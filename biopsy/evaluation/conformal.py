"""Prediction sets: the classes that a case may be, so that in 90 % (95 %) of new cases the truth is among them.

Split-conformal prediction (Vovk et al., 2005; Sadinle et al., JASA 114, 2019): the score of a case is one minus the
probability of its true class, and a class is in the set of a new case if its score is no larger than the
ceil((n + 1) * level)-th smallest of n cases that the model has not learnt from. It holds for any model, on average over
new cases of the same kind, and not for each class. Too few cases have no such score, and then there is no set.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.figures import LEVEL, NO_CASES, by_case
from biopsy.evaluation.intervals import clopper_pearson
from biopsy.evaluation.outcome import DIGITS, Names, Outcome, Undefined, settle

LEVELS = (0.9, 0.95)
FEWEST = 5  # cases of a class, below which its coverage says more of these few than of the class
TORN = "images of one case are in several folds, so the folds are not independent"
TOGETHER = "the cases were each other's calibration, so they are not independent"

Places = NDArray[np.int_] | Undefined | None  # the fold of each case; why a case has none; None: a single model


def scores(outcome: Outcome) -> NDArray[np.float64]:
    """Return one minus each probability, (n, c), in six decimals, so that a threshold can be written down."""
    return (1 - outcome.probabilities).round(DIGITS)


def own_scores(outcome: Outcome) -> NDArray[np.float64]:
    """Return the score of the true class, (n,)."""
    return scores(outcome)[np.arange(len(outcome.truth)), outcome.truth]


def fewest(level: float) -> int:
    """Return how many cases a threshold needs: 9 for 0.9, 19 for 0.95."""
    return int(np.ceil(level / (1 - level) - 1e-9))


def conformal_threshold(own: NDArray[np.float64], level: float) -> float | Undefined:
    """Return the largest score that is still in the set.

    Parameters
    ----------
    own
        (n,) the scores of the true classes of n cases that the model has not learnt from.
    level
        The share of new cases whose set must hold the truth, 0 to 1.
    """
    n, place = len(own), int(np.ceil((len(own) + 1) * level - 1e-9))
    if place > n:
        return Undefined(f"a set for {100 * level:g} % needs {fewest(level)} cases, and there are {n}")
    return float(np.sort(own)[place - 1])


def describe_sets(
    val: tuple[Outcome, Names], test: tuple[Outcome, Names], folds: Names | None = None
) -> dict[str, Any]:
    """Find the threshold of each level and say what the sets do on cases that had no part in it.

    With a single model, the validation cases set the threshold and the test cases try it. In a cross-validation, the
    test cases of all folds do both, each answered by the model that has not seen it: the threshold for the cases of a
    fold is set by those of the other folds. Leaving out one case at a time instead would show nothing: of n scores
    without ties it covers ceil(n * level) cases whatever the model is, since only the ranks count. Leaving out a fold
    shows whether the folds' models give scores of one kind, which is what the promise rests on.

    Parameters
    ----------
    val, test
        Outcome of n images, and the case of each, (n,); an empty string where it is not known.
    folds
        (n,) the fold of each test image; None: a single model.

    Returns
    -------
    dict
        Ready for JSON. `cases`, how many set the threshold, `from`, 'validation' or 'folds', and `levels`, by '0.9' and
        '0.95', each with `threshold` and, of the test part, `covered` `of` all cases, `coverage` with its `interval`,
        `lowest` (coverage of the worst fold; None of a single model), `size` (mean number of classes), `single`,
        `empty` (shares of the sets with one class, with no class) and `by_class`. A level without sets is null, with a
        reason.
    """
    if any((groups == "").any() for _, groups in (val, test)):
        return settle({"cases": None, "from": None, "levels": {f"{level:g}": Undefined(NO_CASES) for level in LEVELS}})
    whole, index = by_case(*test)
    places: Places = None
    if folds is not None:
        places = np.unique(folds[np.unique(index, return_index=True)[1]], return_inverse=True)[1]
        if len(set(zip(index, folds, strict=True))) > len(whole.truth):
            places = Undefined(TORN)
    own = own_scores(by_case(*val)[0] if places is None else whole)
    found = {f"{level:g}": _describe(own, whole, places, level) for level in LEVELS}
    return settle({"cases": len(own), "from": "validation" if places is None else "folds", "levels": found})


def _describe(own: NDArray[np.float64], whole: Outcome, places: Places, level: float) -> dict[str, Any] | Undefined:
    threshold, n = conformal_threshold(own, level), len(whole.truth)
    if isinstance(threshold, Undefined):
        return threshold
    if isinstance(places, Undefined):
        return {"threshold": threshold, **dict.fromkeys(("covered", "coverage"), places)}
    cuts = np.full(n, threshold)
    for place in range(0 if places is None else places.max() + 1):
        cut = conformal_threshold(own[places != place], level)
        if isinstance(cut, Undefined):
            return {
                "threshold": threshold,
                **dict.fromkeys(("covered", "coverage"), Undefined(f"to try it, {cut.reason}")),
            }
        cuts[places == place] = cut
    sets = scores(whole) <= cuts[:, None]
    covered, sizes = sets[np.arange(n), whole.truth], sets.sum(1)
    return {
        "threshold": threshold,
        "covered": int(covered.sum()),
        "of": n,
        "coverage": float(covered.mean()),
        "interval": clopper_pearson(int(covered.sum()), n, LEVEL).ends if places is None else Undefined(TOGETHER),
        "lowest": None if places is None else float((np.bincount(places, covered) / np.bincount(places)).min()),
        "size": float(sizes.mean()),
        "single": float((sizes == 1).mean()),
        "empty": float((sizes == 0).mean()),
        "by_class": {name: _of_class(covered[whole.truth == i]) for i, name in enumerate(whole.classes)},
    }


def _of_class(covered: NDArray[np.bool_]) -> dict[str, Any]:
    about = {"covered": int(covered.sum()), "of": len(covered)}
    few = Undefined("too few cases")
    return {**about, "coverage": float(covered.mean()) if len(covered) >= FEWEST else few}
