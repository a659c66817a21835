"""One row from all folds: pooled out-of-fold figures, averaged over repeats, beside the figures of each fold."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from biopsy.evaluation.figures import by_case
from biopsy.evaluation.outcome import DIGITS, Names, Outcome, figures, settle

OF_A_FOLD = ("macro_f1", "balanced_accuracy", "roc_auc")


def average_details(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average what `evaluate_outcome` said of each repeat, each of which tests every image once.

    Parameters
    ----------
    repeats
        One or more, of the same images.

    Returns
    -------
    dict
        Of the same keys. Numbers, and the ends of intervals, are means over repeats; a figure that one repeat does not
        define is null with that repeat's reason. With several repeats, `repeats` holds their number and the standard
        deviation of the main figures over them.
    """
    if len(repeats) == 1:
        return repeats[0]
    main = {
        **{name: [one["image_level"][name] for one in repeats] for name in OF_A_FOLD},
        "case_f1": [one["case_level"]["macro_f1"] for one in repeats],
    }
    return {**average(repeats), "repeats": {"count": len(repeats), "sd": _spread(main)[1]}}


def describe_folds(folds: Mapping[str, tuple[Outcome, Names]]) -> dict[str, Any]:
    """Compute the main figures of each fold by itself, their mean and standard deviation.

    Parameters
    ----------
    folds
        By the fold's name: what it tests, and the case of each image.

    Returns
    -------
    dict
        Ready for JSON: `rows`, one a fold, `mean`, `sd` (n - 1; over the folds that define the figure). A fold's macro
        figures are averages over the classes that it tests, so they are not those of all images.
    """
    rows = [{"fold": name, **_row(outcome, groups)} for name, (outcome, groups) in folds.items()]
    mean, sd = _spread({name: [row[name] for row in rows] for name in (*OF_A_FOLD, "case_f1")})
    return {"rows": rows, "mean": mean, "sd": sd}


def _row(outcome: Outcome, groups: Names) -> dict[str, Any]:
    """Count one fold and compute its figures."""
    all_figures, known = figures(outcome), not (groups == "").any()
    return settle(
        {
            "images": len(outcome.truth),
            "cases": len(np.unique(groups)) if known else None,
            "classes_in_test": outcome.classes_in_test,
            **{name: all_figures[name] for name in OF_A_FOLD},
            "case_f1": figures(by_case(outcome, groups)[0])["macro_f1"] if known else None,
        }
    )


def _spread(values: Mapping[str, Sequence[float | None]]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Compute mean and standard deviation of each figure where it is defined; null where too few are."""
    known = {name: [v for v in found if v is not None] for name, found in values.items()}
    mean = {name: round(fmean(found), DIGITS) if found else None for name, found in known.items()}
    return mean, {name: round(stdev(found), DIGITS) if len(found) > 1 else None for name, found in known.items()}


def average(values: Sequence[Any]) -> Any:
    """Average numbers, in dicts and in lists of equal length too; of what is no number the first stands for all."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict):
        if lacking := [value for value in values if value.keys() == {"reason"}]:  # an operating point that one lacks
            return lacking[0]
        merged = {key: average([value.get(key) for value in values]) for key in first if key != "reasons"}
        reasons = {key: reason for value in values for key, reason in value.get("reasons", {}).items()}
        kept = {key: reason for key, reason in reasons.items() if key in merged and merged[key] is None}
        return {**merged, "reasons": kept} if kept else merged
    if isinstance(first, list):
        return [average(items) for items in zip(*values, strict=True)]
    if isinstance(first, str) or all(value == first for value in values):
        return first
    return round(fmean(values), DIGITS)
