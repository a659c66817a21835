"""From folds and repeats to one row, by hand."""

import numpy as np
import pytest

from biopsy.evaluation.figures import evaluate_outcome
from biopsy.evaluation.operating import operating_points
from biopsy.evaluation.outcome import Outcome, make_outcome
from biopsy.evaluation.pooling import average, average_details, describe_folds

TWO = ["benign", "malignant"]


def outcome(truth: list[int], malignant: list[float]) -> Outcome:
    p = np.array(malignant)
    return make_outcome(np.array(truth), np.stack([1 - p, p], 1), TWO, positive=["malignant"])


def details(truth: list[int], malignant: list[float]) -> dict:
    n = len(truth)
    return evaluate_outcome(outcome(truth, malignant), np.array([str(i) for i in range(n)]), np.array(["40"] * n))


TRUTH = [0, 0, 1, 1]


def test_figures_of_repeats_are_averaged_with_their_spread() -> None:
    repeats = [details(TRUTH, [0.1, 0.2, 0.8, 0.9]), details(TRUTH, [0.1, 0.7, 0.8, 0.9])]
    found = average_details(repeats)
    assert found["image_level"]["accuracy"] == pytest.approx((1 + 0.75) / 2)
    f1 = (2 * 1 / 3 + 2 * 2 / 5) / 2  # of the second repeat: benign 2/3, malignant 4/5
    assert found["image_level"]["macro_f1"] == pytest.approx((1 + f1) / 2, abs=1e-6)
    assert found["repeats"]["count"] == 2
    assert found["repeats"]["sd"]["macro_f1"] == pytest.approx(np.std([1, f1], ddof=1), abs=1e-6)
    assert found["cases_right"]["right"] == 3.5
    ends = [one["cases_right"]["interval"] for one in repeats]
    assert found["cases_right"]["interval"] == pytest.approx(np.mean(ends, axis=0), abs=1e-6)
    assert (found["images"], found["cases"], found["classes"]) == (4, 4, TWO)


def test_one_repeat_stays_as_it_is() -> None:
    assert average_details([details(TRUTH, [0.1, 0.2, 0.8, 0.9])]) == details(TRUTH, [0.1, 0.2, 0.8, 0.9])


def test_what_one_repeat_does_not_define_is_null_with_its_reason() -> None:
    found = average_details([details(TRUTH, [0.6, 0.7, 0.8, 0.9]), details(TRUTH, [0.1, 0.2, 0.8, 0.9])])
    assert found["image_level"]["mcc"] is None
    assert found["image_level"]["reasons"] == {"mcc": "the model predicts one class only"}
    assert found["per_class"]["benign"]["reasons"] == {"precision": "never predicted"}
    assert found["image_level"]["accuracy"] == 0.75


def test_an_operating_point_that_one_repeat_lacks_is_that_repeats_reason() -> None:
    cases, good, flat = np.array(list("abcd")), outcome(TRUTH, [0.1, 0.2, 0.8, 0.9]), outcome(TRUTH, [0.5] * 4)
    points = [operating_points((val, cases), (good, cases), 0.95) for val in (good, flat)]
    for repeats in (points, points[::-1]):
        found = average(repeats)
        assert found["image"] == {"reason": "the model gives every validation image the same probability"}
        assert found["case"] == found["image"]


def test_folds_have_their_own_figures_and_mean_and_deviation_over_those_that_define_them() -> None:
    cases = np.array(["1", "1"])
    found = describe_folds(
        {
            "1-1": (outcome([0, 1], [0.1, 0.9]), cases),
            "1-2": (outcome([0, 1], [0.9, 0.1]), cases),
            "1-3": (outcome([1, 1], [0.9, 0.9]), cases),
        }
    )
    assert [row["fold"] for row in found["rows"]] == ["1-1", "1-2", "1-3"]
    assert [row["macro_f1"] for row in found["rows"]] == [1, 0, 1]
    assert [row["roc_auc"] for row in found["rows"]] == [1, 0, None]
    assert found["rows"][2]["reasons"] == {"roc_auc": "only 'malignant' is tested"}
    assert (found["mean"]["macro_f1"], found["mean"]["roc_auc"]) == (pytest.approx(2 / 3, abs=1e-6), 0.5)
    assert found["sd"]["roc_auc"] == pytest.approx(np.sqrt(0.5), abs=1e-6)
