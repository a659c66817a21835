"""Truth and probabilities of a test, and the figures that sum them up, all by scikit-learn.

A figure that the data do not define (one class only, say) is null, and `reasons` beside it says why; it is never 0 or
NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import DataError

DIGITS = 6

Labels = NDArray[np.int_]
Names = NDArray[np.str_]
Score = Callable[[NDArray[np.bool_], NDArray[np.float64]], float]


@dataclass(frozen=True)
class Undefined:
    """A figure that these data do not define."""

    reason: str


@dataclass(frozen=True)
class Outcome:
    """Truth and probabilities of n images, or of n cases.

    Attributes
    ----------
    truth
        (n,) int, index into `classes`.
    probabilities
        (n, c) float64, rows sum to 1.
    classes
        The c names.
    threshold
        Operating point: with two classes, on the probability of the second; with more, the largest wins, and it is
        applied to the sum of the positive ones.
    positive
        The positive classes; sensitivity and specificity are theirs, and exist where there are any.
    """

    truth: Labels
    probabilities: NDArray[np.float64]
    classes: Sequence[str]
    threshold: float = 0.5
    positive: Sequence[str] = ()

    @property
    def predicted(self) -> Labels:
        """(n,) int, the classes chosen."""
        if len(self.classes) == 2:
            return (self.probabilities[:, 1] >= self.threshold).astype(int)
        return self.probabilities.argmax(1)

    @property
    def present(self) -> list[int]:
        """The classes that the truth holds."""
        return np.unique(self.truth).tolist()

    @property
    def classes_in_test(self) -> str:
        """How many classes the truth holds: '6 of 8'."""
        return f"{len(self.present)} of {len(self.classes)}"

    def __getitem__(self, rows: NDArray[Any]) -> "Outcome":
        return replace(self, truth=self.truth[rows], probabilities=self.probabilities[rows])


def make_outcome(
    truth: Labels,
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    threshold: float = 0.5,
    positive: Sequence[str] = (),
) -> Outcome:
    """Check a model's answers and scale their rows to sum to 1 in double precision.

    Parameters
    ----------
    truth
        (n,) int, index into `classes`.
    probabilities
        (n, c), 0 to 1, in the order of `classes`.
    classes
        The c names.
    threshold, positive
        See `Outcome`.

    Raises
    ------
    DataError
        There are no images, or a probability is not a number.
    """
    wide = np.asarray(probabilities, np.float64)
    if not len(wide):
        raise DataError("The test set has no images. Raise split.test, or add images, and run `dvc repro`.")
    broken = int((~np.isfinite(wide).all(1) | (wide.sum(1) <= 0)).sum())
    if broken:
        raise DataError(
            f"The model gives no number for {broken} of {len(wide)} test images: its training diverged. "
            "Lower train.learning_rate, or set train.precision to float32, and run `dvc repro`."
        )
    return Outcome(truth, wide / wide.sum(1, keepdims=True), classes, threshold, positive)


def figures(outcome: Outcome) -> dict[str, float | Undefined]:
    """Compute the figures that sum up an outcome.

    Returns
    -------
    dict
        Macro and balanced figures are averages over the classes that the truth holds. ROC-AUC and PR-AUC (average
        precision) are those of the second of two classes, or averages of one class against the rest.
    """
    from sklearn import metrics  # a second, which comparing runs need not spend

    truth, predicted = outcome.truth, outcome.predicted
    alone = _one_class(outcome)
    constant = Undefined("the model predicts one class only") if len(np.unique(predicted)) == 1 else None
    average: dict[str, Any] = {"labels": outcome.present, "zero_division": 0.0}
    return {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.recall_score(truth, predicted, average="macro", **average),
        "macro_f1": metrics.f1_score(truth, predicted, average="macro", **average),
        "weighted_f1": metrics.f1_score(truth, predicted, average="weighted", **average),
        "roc_auc": alone or _over_classes(outcome, metrics.roc_auc_score),
        "pr_auc": alone or _over_classes(outcome, metrics.average_precision_score),
        "mcc": alone or constant or metrics.matthews_corrcoef(truth, predicted),
        "cohen_kappa": alone or metrics.cohen_kappa_score(truth, predicted),
        "log_loss": log_loss(outcome),
        **_of_positives(outcome),
    }


def log_loss(outcome: Outcome) -> float:
    """Compute the mean of minus the logarithm of the probability of the truth; one of 0 counts as 2.2e-16."""
    from sklearn import metrics

    return float(metrics.log_loss(outcome.truth, outcome.probabilities, labels=range(len(outcome.classes))))


def _of_positives(outcome: Outcome) -> dict[str, float | Undefined]:
    """Compute sensitivity and specificity, where the task names positive classes."""
    if not outcome.positive:
        return {}
    columns = [i for i, name in enumerate(outcome.classes) if name in outcome.positive]
    positive, called = np.isin(outcome.truth, columns), outcome.probabilities[:, columns].sum(1) >= outcome.threshold
    if len(outcome.classes) == 2:
        called = np.isin(outcome.predicted, columns)
    return {"sensitivity": _share(positive, called, "positive"), "specificity": _share(~positive, ~called, "negative")}


def class_figures(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Compute each class's figures against the rest, also of classes that are not tested."""
    from sklearn import metrics

    labels = range(len(outcome.classes))
    scores = metrics.precision_recall_fscore_support(
        outcome.truth, outcome.predicted, labels=labels, zero_division=np.nan
    )
    table = {}
    for i, precision, recall, f1, support in zip(labels, *scores, strict=True):
        untested = None if support else Undefined("this class is not tested")
        table[outcome.classes[i]] = {
            "support": int(support),
            "predicted": int((outcome.predicted == i).sum()),
            "precision": Undefined("never predicted") if np.isnan(precision) else precision,
            "recall": untested or recall,
            "f1": untested or f1,
            "roc_auc": _rank(outcome, i, metrics.roc_auc_score),
            "pr_auc": _rank(outcome, i, metrics.average_precision_score),
        }
    return table


def settle(value: Any) -> Any:
    """Make figures ready for JSON: six decimals, and null and a reason where one is `Undefined`."""
    if isinstance(value, dict):
        reasons = {name: v.reason for name, v in value.items() if isinstance(v, Undefined)}
        settled = {name: settle(v) for name, v in value.items()}
        return {**settled, "reasons": reasons} if reasons else settled
    if isinstance(value, list):
        return [settle(v) for v in value]
    if isinstance(value, Undefined):
        return None
    return round(float(value), DIGITS) + 0.0 if isinstance(value, float) else value


def _one_class(outcome: Outcome) -> Undefined | None:
    """Say so where only one class is tested, so that nothing can be told apart."""
    if len(outcome.present) > 1:
        return None
    return Undefined(f"only '{outcome.classes[outcome.present[0]]}' is tested")


def _share(positive: NDArray[np.bool_], called: NDArray[np.bool_], name: str) -> float | Undefined:
    """Return the share of the positives that was called positive."""
    if not positive.any():
        return Undefined(f"nothing {name} is tested")
    return float(called[positive].mean())


def _rank(outcome: Outcome, index: int, score: Score) -> float | Undefined:
    """Score one class against the rest."""
    positive = outcome.truth == index
    if not positive.any():
        return Undefined("this class is not tested")
    if positive.all():
        return Undefined("only this class is tested")
    return float(score(positive, outcome.probabilities[:, index]))


def _over_classes(outcome: Outcome, score: Score) -> float:
    """Score the second of two classes, or average one-against-rest over the classes that are tested."""
    chosen = [1] if len(outcome.classes) == 2 else outcome.present
    return float(np.mean([_rank(outcome, i, score) for i in chosen]))
