"""Does a network know the type, or the slide? What its features tell of either, by the nearest image.

Every type is made of slides, so features that know only the slide tell the type of an image as long as others of
its slide are at hand. Leaving out the image alone is therefore compared with leaving out its whole case.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances

from biopsy.evaluation.intervals import wilson
from biopsy.evaluation.outcome import Names

FEWEST_CASES = 5
UNKNOWN = "cases or slides not known"


def measure_shortcut(
    features: NDArray[np.float64], types: Names, slides: Names, cases: Names, asked: NDArray[np.bool_]
) -> dict[str, dict[str, Any]]:
    """Find how often the nearest image is of the same slide, and of the same type with and without the own case.

    Parameters
    ----------
    features
        (n, k), between which distances are Euclidean.
    types, slides, cases
        (n,) of each image; an empty string where it is not known.
    asked
        (n,) the images whose neighbours are looked for, among all others: those that the network has not learnt from.

    Returns
    -------
    dict
        `slide`, `type` (any other image) and `type_elsewhere` (images of other cases), each with `right` `of` the asked
        images that have one to find, their `cases`, `share`, `random` (the share of a random one), and `low` and
        `high`, Wilson's interval with the cases as its count, or `few`: why there is no interval. `of` may be 0.
    """
    apart = euclidean_distances(features)
    np.fill_diagonal(apart, np.inf)
    itself = np.eye(len(features), dtype=bool)
    own = (cases[:, None] == cases) & (cases != "")
    known = (slides != "") & (cases != "")
    found = {
        "slide": _nearest(apart, slides, ~itself, asked & (slides != ""), cases),
        "type": _nearest(apart, types, ~itself, asked & (types != ""), cases),
        "type_elsewhere": _nearest(apart, types, ~itself & ~own & known[None], asked & (types != "") & known, cases),
    }
    if not known.any():
        found["type_elsewhere"]["few"] = UNKNOWN
    return found


def _nearest(
    apart: NDArray[np.float64], names: Names, allowed: NDArray[np.bool_], asked: NDArray[np.bool_], cases: Names
) -> dict[str, Any]:
    """Look up the nearest allowed image of each asked one, where some allowed one has its name."""
    same = (names[:, None] == names) & allowed
    asked = asked & same.any(1)
    n = int(asked.sum())
    if not n:
        return {"right": 0, "of": 0, "cases": 0, "share": None, "random": None, "few": "nothing to ask"}
    nearest = np.where(allowed, apart, np.inf)[asked].argmin(1)
    right = names[nearest] == names[asked]
    units = np.unique(cases[asked])
    found: dict[str, Any] = {"right": int(right.sum()), "of": n, "cases": len(units), "share": float(right.mean())}
    found["random"] = float((same[asked].sum(1) / allowed[asked].sum(1)).mean())
    if (units == "").any() or len(units) < FEWEST_CASES:
        return {**found, "few": "too few cases" if (units != "").all() else "cases not known"}
    interval = wilson(found["share"], len(units))
    return {**found, "low": interval.low, "high": interval.high}
