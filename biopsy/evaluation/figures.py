"""All figures of one model on the test set, from arrays alone: images, cases, intervals, tables.

Macro figures are taken over the classes of the test set, and `classes_in_test` says how many those are. A
class that training never saw but that is tested counts as what it is, recall 0: leaving it out would flatter.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from biopsy.evaluation.intervals import Interval, clopper_pearson, figure_intervals
from biopsy.evaluation.jackknife import FIGURES
from biopsy.evaluation.outcome import Labels, Names, Outcome, Undefined, class_figures, figures, settle

LEVEL = 0.95
NO_CASES = "there are images whose case is not known"


def evaluate_outcome(outcome: Outcome, groups: Names, magnification: Names) -> dict[str, Any]:
    """Compute every figure of one model on its test set.

    Parameters
    ----------
    outcome
        Truth and probabilities of n images.
    groups
        (n,) str, the case of each image; an empty string where it is not known.
    magnification
        (n,) str, such as '40'; an empty string where it is not known.

    Returns
    -------
    dict
        Ready for JSON: `image_level` and `case_level` (mean probability per case), the 95 % intervals of either,
        `intervals` and `case_intervals`, `cases_right`, `per_class`, `per_magnification`, and the counts behind them.
        A case whose images have two truths counts once for each. Each null has its reason in `reasons`.
    """
    return settle(
        {
            "images": len(outcome.truth),
            "cases": _count(groups),
            "classes": list(outcome.classes),
            "classes_in_test": outcome.classes_in_test,
            "classes_not_in_test": [name for i, name in enumerate(outcome.classes) if i not in outcome.present],
            "threshold": float(outcome.threshold),
            "image_level": figures(outcome),
            "case_level": _case_figures(outcome, groups),
            "intervals": _intervals(outcome, groups, unknown=_no_cases(groups)),
            "case_intervals": _intervals(*_whole_cases(outcome, groups), unknown=_no_cases(groups)),
            "cases_right": _cases_right(outcome, groups),
            "per_class": _per_class(outcome, groups),
            "per_magnification": _per_magnification(outcome, groups, magnification),
        }
    )


def by_case(outcome: Outcome, groups: Names) -> tuple[Outcome, Labels]:
    """Average the probabilities of each (case, truth); also return (n,), where each image went."""
    keys, index = np.unique([f"{t} {g}" for t, g in zip(outcome.truth, groups, strict=True)], return_inverse=True)
    sums = np.zeros((len(keys), len(outcome.classes)))
    np.add.at(sums, index, outcome.probabilities)
    truth = np.array([int(key.split(" ")[0]) for key in keys])
    return replace(outcome, truth=truth, probabilities=sums / np.bincount(index)[:, None]), index


def summary(details: dict[str, Any], digits: int) -> dict[str, float | None]:
    """Pick the figures that `dvc metrics show` fits on a screen: the same six for every task and protocol.

    Parameters
    ----------
    details
        What `evaluate_outcome` returned; it also holds the reason of each null.
    digits
        Decimals, 1 to 6.

    Returns
    -------
    dict
        `macro_f1` with the ends of its interval, `bal_acc` and `roc_auc` of the images, `case_f1` (macro) of the cases.
    """
    low, high = details["intervals"]["macro_f1"] or (None, None)
    picked = {
        "macro_f1": details["image_level"]["macro_f1"],
        "f1_low": low,
        "f1_high": high,
        "bal_acc": details["image_level"]["balanced_accuracy"],
        "roc_auc": details["image_level"]["roc_auc"],
        "case_f1": details["case_level"]["macro_f1"],
    }
    return {name: None if value is None else round(value, digits) for name, value in picked.items()}


def short_figures(outcome: Outcome) -> dict[str, float | None]:
    """Compute the three figures by which experiments are chosen: of validation, where no interval is due."""
    found = settle(figures(outcome))
    return {"macro_f1": found["macro_f1"], "bal_acc": found["balanced_accuracy"], "roc_auc": found["roc_auc"]}


def _no_cases(groups: Names) -> Undefined | None:
    unknown = int((groups == "").sum())
    return Undefined(f"{unknown} of {len(groups)} test images have no case") if unknown else None


def _count(groups: Names) -> int | Undefined:
    return _no_cases(groups) or len(np.unique(groups))


def _case_figures(outcome: Outcome, groups: Names) -> dict[str, Any]:
    """Compute the figures of whole cases, and the two recognition rates of Spanhol et al. (TBME 63(7), 2016, IV).

    Patient recognition rate: mean over cases of correct images / images of that case; image rate: the same, pooled.
    """
    cases, index = by_case(outcome, groups)
    correct = outcome.predicted == outcome.truth
    result = {
        "units": len(cases.truth),
        **figures(cases),
        "patient_recognition_rate": float((np.bincount(index, correct) / np.bincount(index)).mean()),
        "image_recognition_rate": float(correct.mean()),
    }
    unknown = _no_cases(groups)
    return dict.fromkeys(result, unknown) if unknown else result


def _whole_cases(outcome: Outcome, groups: Names) -> tuple[Outcome, Names]:
    """Return each (case, truth) with its mean probabilities, and the name of its case."""
    cases, index = by_case(outcome, groups)
    return cases, groups[np.unique(index, return_index=True)[1]]


def _intervals(outcome: Outcome, groups: Names, unknown: Undefined | None) -> dict[str, Any]:
    """Compute the intervals over new cases, as `[low, high]`, of those figures that the outcome has."""
    about: dict[str, Any] = {"level": LEVEL, "unit": "case"}
    positive = [outcome.classes.index(name) for name in outcome.positive]
    names = [name for name in FIGURES if positive or name not in ("sensitivity", "specificity")]
    if unknown:
        return about | dict.fromkeys(names, unknown)
    found = figure_intervals(outcome.truth, outcome.probabilities, groups, positive, outcome.threshold, LEVEL)
    kept = {name: found[name] for name in names}
    return about | {name: v.ends if isinstance(v, Interval) else v for name, v in kept.items()}


def _cases_right(outcome: Outcome, groups: Names) -> dict[str, Any] | Undefined:
    """Count the cases that are called right, with the exact interval of their share."""
    unknown = _no_cases(groups)
    if unknown:
        return unknown
    cases, _ = by_case(outcome, groups)
    right, n = int((cases.predicted == cases.truth).sum()), len(cases.truth)
    return {"right": right, "of": n, "interval": clopper_pearson(right, n, LEVEL).ends}


def _per_class(outcome: Outcome, groups: Names) -> dict[str, Any]:
    table = class_figures(outcome)
    for i, row in enumerate(table.values()):
        row["cases"] = _count(groups[outcome.truth == i])
    return table


def _per_magnification(outcome: Outcome, groups: Names, magnification: Names) -> dict[str, Any]:
    """Compute the main figures at each magnification, the smallest first, unknown ones last."""
    table = {}
    for value in sorted(set(magnification.tolist()), key=lambda m: float(m or "inf")):
        rows = magnification == value
        part = outcome[rows]
        all_figures = figures(part)
        table[value or "unknown"] = {
            "images": int(rows.sum()),
            "cases": _count(groups[rows]),
            "classes_in_test": part.classes_in_test,
            **{name: all_figures[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")},
        }
    return table
