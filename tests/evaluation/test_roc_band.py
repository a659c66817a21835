"""The band of an ROC curve."""

import numpy as np
import pandas as pd
import pytest

from biopsy.evaluation.intervals import figure_intervals
from biopsy.evaluation.outcome import Outcome, Undefined, make_outcome
from biopsy.evaluation.predictions import curve_table
from biopsy.evaluation.report.charts import roc_chart
from biopsy.evaluation.roc_band import roc_band

NAMES = ["benign", "malignant"]


def answers(cases: int, images: int = 10, seed: int = 0, apart: float = 1.0) -> tuple[Outcome, np.ndarray]:
    """As many benign as malignant cases, each with an effect of its own on its images."""
    random = np.random.default_rng(seed)
    truth, case = np.repeat(np.arange(cases) % 2, images), np.repeat(np.arange(cases), images)
    score = apart * (2 * truth - 1) + random.normal(0, 1, cases)[case] + random.normal(0, 1, len(case))
    p = 1 / (1 + np.exp(-score))
    return make_outcome(truth, np.stack([1 - p, p], 1), NAMES, 0.5, ["malignant"]), case.astype(str)


def test_a_band_is_the_interval_of_sensitivity_at_each_threshold_and_holds_the_curve() -> None:
    outcome, cases = answers(20)
    band = roc_band(outcome, cases)
    assert isinstance(band, pd.DataFrame)
    assert len(band) <= 40
    assert band["fpr"].is_monotonic_increasing
    middle = float(np.sort(outcome.probabilities[:, 1])[::-1][np.linspace(0, 199, 40).round().astype(int)[20]])
    wanted = figure_intervals(outcome.truth, outcome.probabilities, cases, [1], middle)["sensitivity"]
    assert band.iloc[20]["low"] == pytest.approx(wanted.low, abs=1e-6)
    assert band.iloc[20]["high"] == pytest.approx(wanted.high, abs=1e-6)
    curve = curve_table(outcome, "roc")
    at = np.interp(band["fpr"], curve["fpr"], curve["tpr"])  # where the curve rises, the top of the rise
    assert (band["low"] <= at + 1e-6).all()
    assert band["low"].is_monotonic_increasing
    assert band["high"].is_monotonic_increasing


def test_a_band_covers_the_true_sensitivity_at_a_threshold() -> None:
    crowd, _ = answers(4000, images=5, seed=1)
    positive = np.sort(crowd.probabilities[crowd.truth == 1, 1])
    held = []
    for seed in range(60):
        band = roc_band(*answers(16, seed=seed + 10))
        true = 1 - np.searchsorted(positive, band["threshold"]) / len(positive)
        held.append(((band["low"] <= true) & (true <= band["high"])).mean())
    assert 0.93 < np.mean(held) < 1  # .95 wanted; a standard error is .015


@pytest.mark.parametrize(
    ("outcome", "cases", "reason"),
    [
        (answers(10)[0], answers(10)[1], "positive cases"),
        (answers(20)[0], np.full(200, ""), "case is not known"),
        (
            make_outcome(np.arange(30) % 3, np.full((30, 3), 1 / 3), ["a", "b", "c"], 0.5, []),
            np.arange(30).astype(str),
            "hide one another",
        ),
        (
            make_outcome(np.zeros(9, int), np.full((9, 2), 0.5), NAMES, 0.5, []),
            np.arange(9).astype(str),
            "no malignant",
        ),
    ],
)
def test_where_no_band_holds_there_is_a_reason(outcome: Outcome, cases: np.ndarray, reason: str) -> None:
    band = roc_band(outcome, cases)
    assert isinstance(band, Undefined)
    assert reason in band.reason


def test_the_chart_shows_the_band_below_the_curve() -> None:
    outcome, cases = answers(20)
    curve, colours = curve_table(outcome, "roc"), {"malignant": "#123456"}
    drawn = roc_chart(curve, colours, "title", roc_band(outcome, cases))
    assert drawn.index("<polygon") < drawn.rindex("<polyline")
    assert "<polygon" not in roc_chart(curve, colours, "title", Undefined("too few"))
