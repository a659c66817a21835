"""One answer for each case or slide, of those for its images; which classes it may be, and which answers are unsure."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.text import id_key
from biopsy.serving.figures import FiguresOf, figures_of_test
from biopsy.serving.inputs import Found
from biopsy.serving.model import Answer, Model

TOLD = ("image", "error", "in_training", "unlike_training")  # of an image, not of a case
SETS = "0.9"  # of new cases; 0.95 would need twice as many to set it by


def promises_of(model: Model, figures_of: FiguresOf | None) -> dict[str, Any]:
    """Return the test figures that promise something about new cases; empty if nothing is promised.

    Only a model that was tested on cases that its training does not share promises anything.
    """
    return (figures_of_test(model, figures_of) or {}) if model.card.protocol.startswith("case") else {}


def set_threshold(promises: Mapping[str, Any]) -> float | None:
    """Return how improbable a class of a case's prediction set may be (1 - its mean probability); None: no sets."""
    at = (promises.get("sets") or {}).get("levels", {}).get(SETS)
    return at["threshold"] if at else None


def unsure_below(promises: Mapping[str, Any], unit: str) -> float | None:
    """Return the largest probability below which an 'image' or 'case' is too unsure to answer; None: no rule."""
    rule = ((promises.get("abstention") or {}).get(unit) or {}).get("rule")
    return rule["threshold"] if rule else None


def is_unsure(given: NDArray[np.float64], below: float) -> bool:
    """Say whether no class of (classes,) probabilities reaches the threshold, in the digits that a table shows."""
    return bool(given.max().round(6) < below)


def sets_of(promises: Mapping[str, Any], classes: Sequence[str]) -> Callable[[NDArray[np.float64]], str] | None:
    """Return what lists the classes that a case may be, from its mean probabilities; None where there are no sets.

    The truth is among them in 90 % of new cases (`biopsy.evaluation.conformal`).
    """
    threshold = set_threshold(promises)
    if threshold is None:
        return None
    print(
        f"prediction_set: the true class is among these in {100 * float(SETS):g} % of new cases like the "
        f"{promises['sets']['cases']:g} calibration cases.",
        file=sys.stderr,
    )

    def named(given: NDArray[np.float64]) -> str:
        kept = (1 - given).round(6) <= threshold
        return "; ".join(name for name, one in zip(classes, kept, strict=True) if one)

    return named


def unsure_of(promises: Mapping[str, Any], unit: str) -> Callable[[NDArray[np.float64]], bool] | None:
    """Return what says whether probabilities (classes,) are too unsure to answer; None where there is no rule.

    The rule is that of `biopsy.evaluation.abstention`, for each 'image' or 'case'.
    """
    below = unsure_below(promises, unit)
    if below is None:
        return None
    found = promises["abstention"]
    rule = found[unit]["rule"]
    print(
        f"abstain: True where no class reaches {below:g}. Of the other validation {unit}s at most "
        f"{100 * found['target']:g} % were wrong; of the other test {unit}s {rule['test']['wrong']:g} of "
        f"{rule['test']['answered']:g}.",
        file=sys.stderr,
    )
    return lambda given: is_unsure(given, below)


class Groups:
    """The mean probabilities of each case over its images, as the test averages them, and the class by the mean.

    Parameters
    ----------
    model
        What answers.
    groups
        What makes a row: case, slide, or both, since slides of two cases may have one name.
    sets
        `sets(mean)` names the classes that a case may be, by its mean probabilities.
    unsure
        `unsure(mean)` says whether they are too unsure to answer.
    """

    def __init__(
        self,
        model: Model,
        groups: Sequence[str],
        sets: Callable[[NDArray[np.float64]], str] | None = None,
        unsure: Callable[[NDArray[np.float64]], bool] | None = None,
    ) -> None:
        self._model, self._groups, self._sets, self._unsure = model, groups, sets, unsure
        self._names: dict[tuple[str, ...], list[str]] = {}
        self._sums: dict[tuple[str, ...], Any] = {}
        self._counts: dict[tuple[str, ...], list[int]] = {}

    def add(self, image: Found, given: Answer) -> None:
        """Add the answer about one image."""
        ids = [getattr(image, group) for group in self._groups]
        key = tuple(map(id_key, ids))
        self._names.setdefault(key, ids)
        count = self._counts.setdefault(key, [0, 0, 0])
        count[0] += 1
        count[2] += bool(given.learnt)
        if given.error:
            count[1] += 1
        else:
            self._sums[key] = self._sums.get(key, 0) + given.probabilities

    def rows(self) -> Iterator[dict[str, Any]]:
        """Make the rows, once all images are added.

        Yields
        ------
        dict
            The groups; `predicted`, `p_<class>` (0 to 1), empty where no image has a prediction; with `sets` also
            `prediction_set`, which may be empty, and with `unsure` also `abstain`; the numbers of `images` and of those
            `without_prediction` and `in_training` (None: not known). In the order of the first images; ids that differ
            in letter case or blanks are one, written as the first.
        """
        for key, ids in self._names.items():
            images, without, learnt = self._counts[key]
            mean = self._sums[key] / (images - without) if key in self._sums else None
            row = self._model.row("", Answer(np.empty(0), "none") if mean is None else Answer(mean))
            shown = {name: value for name, value in row.items() if name not in TOLD}
            if self._sets:
                shown["prediction_set"] = "" if mean is None else self._sets(mean)
            if self._unsure:
                shown["abstain"] = None if mean is None else self._unsure(mean)
            numbers = {
                "images": images,
                "without_prediction": without,
                "in_training": None if self._model.learnt is None else learnt,
            }
            yield {**dict(zip(self._groups, ids, strict=True)), **shown, **numbers}
