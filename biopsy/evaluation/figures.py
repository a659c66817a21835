"""All figures of one model on the test set, from arrays alone: images, cases, intervals, tables.

Macro figures are taken over the classes of the test set, and `classes_in_test` says how many those are. A
class that training never saw but that is tested counts as what it is, recall 0: leaving it out would flatter.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.outcome import Labels, Names, Outcome, Undefined, class_figures, figures, settle


def evaluate_outcome(
    outcome: Outcome, groups: Names, magnification: Names, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compute every figure of one model on its test set.

    Parameters
    ----------
    outcome
        Truth and probabilities of n images.
    groups
        (n,) str, the case of each image; an empty string where it is not known.
    magnification
        (n,) str, such as '40'; an empty string where it is not known.
    bootstrap
        Draws of whole cases behind each 95 % interval; 0: none.
    seed
        Of these draws.

    Returns
    -------
    dict
        Ready for JSON: `image_level`, `case_level` (mean probability per case), `intervals`, `per_class`,
        `per_magnification`, and the counts behind them. A case whose images have two truths counts once for each.
        Each null has its reason in `reasons`.
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
            "intervals": _intervals(outcome, groups, bootstrap, seed),
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


def _intervals(outcome: Outcome, groups: Names, draws: int, seed: int) -> dict[str, Any]:
    """Bootstrap whole cases, since images of one case are not independent: 95 % percentile intervals.

    In each draw, as in the figure itself, the macro average is over the classes that the draw holds.
    """
    names, index = np.unique(groups, return_inverse=True)
    about = {"level": 0.95, "draws": draws, "unit": "case"}
    unknown = _no_cases(groups)
    if draws == 0:
        unknown = Undefined("evaluate.bootstrap is 0")
    elif len(names) == 1:
        unknown = unknown or Undefined("only one case is tested")
    if unknown:
        return {**about, "macro_f1": unknown, "balanced_accuracy": unknown}
    confusions = np.zeros((len(names), len(outcome.classes), len(outcome.classes)))
    np.add.at(confusions, (index, outcome.truth, outcome.predicted), 1)
    random = np.random.default_rng(seed)
    drawn = (np.bincount(random.integers(len(names), size=len(names)), minlength=len(names)) for _ in range(draws))
    scores = [macro(np.tensordot(weights, confusions, 1)) for weights in drawn]
    low, high = np.percentile(scores, [2.5, 97.5], axis=0)
    return {**about, "macro_f1": [low[0], high[0]], "balanced_accuracy": [low[1], high[1]]}


def macro(confusion: NDArray[np.float64]) -> tuple[float, float]:
    """Macro-F1 and balanced accuracy of a (c, c) confusion matrix: scikit-learn's figures, without its overhead."""
    present = confusion.sum(1) > 0
    actual, predicted = confusion.sum(1)[present], confusion.sum(0)[present]
    hits = confusion.diagonal()[present]
    return (2 * hits / (actual + predicted)).mean(), (hits / actual).mean()


def _per_class(outcome: Outcome, groups: Names) -> dict[str, Any]:
    table = class_figures(outcome)
    for i, row in enumerate(table.values()):
        row["cases"] = _count(groups[outcome.truth == i])
    return table


def _per_magnification(outcome: Outcome, groups: Names, magnification: Names) -> dict[str, Any]:
    """Compute the main figures at each magnification, the smallest first, unknown ones last."""
    table = {}
    for value in sorted(set(magnification.tolist()), key=lambda m: (not m.isdigit(), len(m), m)):
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
