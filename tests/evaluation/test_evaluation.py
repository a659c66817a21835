"""The figures of a test: by hand, against scikit-learn, and where the data do not define them."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from biopsy.core.errors import DataError
from biopsy.evaluation import outcome as module
from biopsy.evaluation.figures import by_case, evaluate_outcome, short_figures, summary
from biopsy.evaluation.jackknife import FIGURES
from biopsy.evaluation.outcome import Outcome, Undefined, class_figures, figures, settle

pytestmark = pytest.mark.filterwarnings("error")

TWO = ["benign", "malignant"]
EIGHT = ["A", "F", "PT", "TA", "DC", "LC", "MC", "PC"]


POSITIVE = ["malignant", "DC", "LC", "MC", "PC"]


def make_outcome(truth: np.ndarray, p: np.ndarray, classes: list[str], threshold: float = 0.5) -> Outcome:
    return module.make_outcome(truth, p, classes, threshold, [name for name in classes if name in POSITIVE])


def one_hot(classes: np.ndarray, width: int) -> np.ndarray:
    return np.eye(width)[classes]


def binary(truth: list[int], malignant: list[float]) -> Outcome:
    p = np.array(malignant, np.float32)
    return make_outcome(np.array(truth), np.stack([1 - p, p], 1), TWO)


def random_outcome(seed: int, classes: list[str], n: int = 200, skill: float = 1.0) -> tuple[Outcome, np.ndarray]:
    """An outcome that knows something, and its cases: about ten images each, all of one class."""
    random = np.random.default_rng(seed)
    cases = random.integers(0, 20, n)
    truth = cases % len(classes)
    scores = random.normal(size=(n, len(classes))) + skill * one_hot(truth, len(classes))
    probabilities = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)
    return make_outcome(truth, probabilities, classes), np.array([f"{case}" for case in cases])


def evaluated(outcome: Outcome, groups: Any = None, magnification: Any = None) -> dict[str, Any]:
    n = len(outcome.truth)
    groups = np.array([str(i) for i in range(n)] if groups is None else groups, dtype=np.str_)
    magnification = np.array(["40"] * n if magnification is None else magnification, dtype=np.str_)
    return evaluate_outcome(outcome, groups, magnification)


def test_six_images_worked_out_by_hand() -> None:
    # benign: 2 of 3 right; malignant: 2 of 3 right. Of nine pairs two are in the wrong order.
    found = figures(binary([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.8, 0.3, 0.7, 0.9]))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == found["macro_f1"] == found["weighted_f1"] == pytest.approx(4 / 6)
    assert found["sensitivity"] == found["specificity"] == pytest.approx(2 / 3)
    assert found["roc_auc"] == pytest.approx(7 / 9)
    assert found["pr_auc"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert [found["mcc"], found["cohen_kappa"]] == pytest.approx([1 / 3, 1 / 3])
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.2, 0.3, 0.7, 0.9]).mean())


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_scikit_learn_where_all_classes_are_tested(seed: int) -> None:
    outcome, _ = random_outcome(seed, EIGHT[:4])
    truth, predicted, p = outcome.truth, outcome.predicted, outcome.probabilities
    found = figures(outcome)
    assert found["macro_f1"] == metrics.f1_score(truth, predicted, average="macro")
    assert found["balanced_accuracy"] == metrics.balanced_accuracy_score(truth, predicted)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, p, multi_class="ovr"))
    assert found["pr_auc"] == pytest.approx(metrics.average_precision_score(one_hot(truth, 4), p))
    assert found["mcc"] == metrics.matthews_corrcoef(truth, predicted)
    assert found["cohen_kappa"] == metrics.cohen_kappa_score(truth, predicted)
    assert found["log_loss"] == metrics.log_loss(truth, p)
    per_class = class_figures(outcome)
    report = metrics.classification_report(truth, predicted, target_names=EIGHT[:4], output_dict=True)
    for name, row in per_class.items():
        assert [row["precision"], row["recall"], row["f1"]] == [
            report[name][k] for k in ("precision", "recall", "f1-score")
        ]


@pytest.mark.parametrize("classes", [TWO, EIGHT])
def test_a_perfect_prediction_scores_one_everywhere(classes: list[str]) -> None:
    truth = np.arange(40) % len(classes)
    found = evaluated(make_outcome(truth, one_hot(truth, len(classes)), classes), groups=truth % 8)
    for level in ("image_level", "case_level"):
        row = dict(found[level])
        assert row.pop("log_loss") == pytest.approx(0, abs=1e-6)
        row.pop("units", None)
        assert set(row.values()) == {1.0}, row
    low, high = found["intervals"]["macro_f1"] or [None, 1.0]
    assert high == 1.0
    assert low is None or low < 1  # few cases, all right, do not show that every case will be
    assert found["cases_right"]["right"] == found["cases_right"]["of"] > 1
    for row in found["per_class"].values():
        assert {row[key] for key in ("precision", "recall", "f1", "roc_auc", "pr_auc")} == {1.0}
    assert found["per_magnification"]["40"]["macro_f1"] == 1.0


def test_the_order_of_the_classes_changes_no_figure() -> None:
    outcome, groups = random_outcome(1, EIGHT)
    order = np.array([3, 0, 7, 2, 6, 1, 5, 4])
    turned = make_outcome(np.argsort(order)[outcome.truth], outcome.probabilities[:, order], [EIGHT[i] for i in order])
    one, other = evaluated(outcome, groups), evaluated(turned, groups)
    for key in ("image_level", "case_level"):
        assert one[key] == pytest.approx(other[key]), key
    assert one["per_magnification"]["40"] == pytest.approx(other["per_magnification"]["40"])
    assert one["intervals"]["macro_f1"] == pytest.approx(other["intervals"]["macro_f1"])
    assert one["per_class"] == {name: pytest.approx(other["per_class"][name]) for name in EIGHT}


def test_a_class_that_is_not_tested_is_null_and_left_out_of_macro_figures() -> None:
    outcome = make_outcome(np.array([1, 1, 2, 2]), one_hot(np.array([1, 1, 2, 0]), 3), ["A", "F", "PT"])
    found = evaluated(outcome)
    assert (found["classes_in_test"], found["classes_not_in_test"]) == ("2 of 3", ["A"])
    assert found["per_class"]["A"] == {
        "support": 0, "predicted": 1, "precision": 0.0, "recall": None, "f1": None, "roc_auc": None, "pr_auc": None,
        "cases": 0,
        "reasons": dict.fromkeys(["recall", "f1", "roc_auc", "pr_auc"], "this class is not tested"),
    }  # fmt: skip
    assert found["image_level"]["macro_f1"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-6)
    assert found["image_level"]["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_tested_class_that_is_never_predicted_counts_as_recall_zero() -> None:
    outcome = make_outcome(np.array([0, 0, 1, 2]), one_hot(np.array([0, 0, 1, 1]), 3), ["A", "F", "PT"])
    found = evaluated(outcome)
    assert found["per_class"]["PT"]["recall"] == found["per_class"]["PT"]["f1"] == 0.0
    assert found["per_class"]["PT"]["precision"] is None
    assert found["per_class"]["PT"]["reasons"]["precision"] == "never predicted"
    assert found["image_level"]["balanced_accuracy"] == pytest.approx(2 / 3, abs=1e-6)


def test_one_class_alone_gives_nulls_with_reasons() -> None:
    found = evaluated(binary([1, 1, 1], [0.9, 0.8, 0.2]))["image_level"]
    assert found["accuracy"] == found["sensitivity"] == pytest.approx(2 / 3, abs=1e-6)
    for name in ("roc_auc", "pr_auc", "mcc", "cohen_kappa"):
        assert found[name] is None
        assert found["reasons"][name] == "only 'malignant' is tested"
    assert found["specificity"] is None
    assert found["reasons"]["specificity"] == "nothing negative is tested"


def test_one_prediction_for_all_has_no_mcc_and_a_kappa_of_zero() -> None:
    found = evaluated(binary([0, 1, 1], [0.9, 0.8, 0.7]))["image_level"]
    assert (found["mcc"], found["reasons"]["mcc"]) == (None, "the model predicts one class only")
    assert found["cohen_kappa"] == 0.0


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (["1", "1", "1"], "too few cases: 1 case is tested, an interval needs 8"),
        (["1", "2", "2"], "too few cases: 2 cases are tested, an interval needs 8"),
        (["1", "2", ""], "1 of 3 test images have no case"),
        (["", "", ""], "3 of 3 test images have no case"),
    ],
)
def test_an_interval_that_cannot_be_had_is_null_with_its_reason(groups: list[str], reason: str) -> None:
    found = evaluated(binary([0, 1, 1], [0.2, 0.8, 0.7]), groups)
    for name in ("macro_f1", "balanced_accuracy", "accuracy"):
        assert found["intervals"][name] is None
        assert found["intervals"]["reasons"][name] == reason
    assert (found["cases_right"] is None) == ("" in groups)
    assert summary(found, 3)["f1_low"] is summary(found, 3)["f1_high"] is None


def test_case_figures_are_null_where_an_image_has_no_case() -> None:
    found = evaluated(binary([0, 1, 1], [0.2, 0.8, 0.7]), ["1", "2", ""])
    reason = "1 of 3 test images have no case"
    assert found["cases"] is None
    assert found["reasons"] == {"cases": reason, "cases_right": reason}
    assert set(found["case_level"].pop("reasons").values()) == {reason}
    assert set(found["case_level"].values()) == {None}
    assert summary(found, 3)["case_f1"] is None
    for level in ("intervals", "case_intervals"):
        assert found[level]["reasons"] == dict.fromkeys(FIGURES, reason)


def test_a_case_is_judged_by_its_mean_probability() -> None:
    # case 1: mean 0.5333, so malignant although two of its three images say benign; case 2: right.
    outcome, groups = binary([1, 1, 1, 0], [0.4, 0.3, 0.9, 0.1]), ["1", "1", "1", "2"]
    found = evaluated(outcome, groups)
    assert found["image_level"]["accuracy"] == 0.5
    assert found["case_level"]["accuracy"] == found["case_level"]["macro_f1"] == 1.0
    assert (found["cases"], found["case_level"]["units"]) == (2, 2)


def test_patient_recognition_rate_weighs_cases_alike_and_image_rate_images() -> None:
    found = evaluated(binary([1, 1, 1, 1, 0], [0.9, 0.4, 0.3, 0.2, 0.1]), ["1", "1", "1", "1", "2"])["case_level"]
    assert found["patient_recognition_rate"] == pytest.approx((1 / 4 + 1) / 2)
    assert found["image_recognition_rate"] == pytest.approx(2 / 5)


def test_a_case_with_two_truths_counts_once_for_each() -> None:
    outcome = make_outcome(np.array([4, 4, 5]), one_hot(np.array([4, 4, 4]), 8), EIGHT)
    groups = np.array(["13412"] * 3)
    cases, index = by_case(outcome, groups)
    assert cases.truth.tolist() == [4, 5]
    assert index.tolist() == [0, 0, 1]
    found = evaluated(outcome, groups)
    assert (found["cases"], found["case_level"]["units"], found["case_level"]["accuracy"]) == (1, 2, 0.5)
    assert found["intervals"]["reasons"]["macro_f1"].startswith("too few cases: 1 ")


def test_sensitivity_of_eight_types_sums_the_malignant_probabilities() -> None:
    p = np.zeros((2, 8))
    p[0, [1, 4, 5]] = 0.4, 0.3, 0.3  # the largest is benign, the malignant ones together are 0.6
    p[1, 0] = 1
    found = figures(make_outcome(np.array([4, 0]), p, EIGHT))
    assert (found["sensitivity"], found["specificity"], found["accuracy"]) == (1.0, 1.0, 0.5)


def test_the_threshold_decides_between_two_classes() -> None:
    p = np.array([[0.7, 0.3], [0.9, 0.1]])
    strict, lenient = (make_outcome(np.array([1, 0]), p, TWO, threshold) for threshold in (0.5, 0.3))
    assert strict.predicted.tolist() == [0, 0]
    assert lenient.predicted.tolist() == [1, 0]
    assert figures(lenient)["sensitivity"] == 1.0


@pytest.mark.parametrize("classes", [TWO, EIGHT[:4]])
def test_intervals_of_images_and_of_cases_hold_their_figure(classes: list[str]) -> None:
    outcome, groups = random_outcome(0, classes)
    found = evaluated(outcome, groups)
    for level, intervals in (("image_level", "intervals"), ("case_level", "case_intervals")):
        for name in ("accuracy", "macro_f1", "balanced_accuracy", "roc_auc", "sensitivity", "specificity"):
            if found[intervals].get(name):
                low, high = found[intervals][name]
                assert 0 <= low <= found[level][name] <= high <= 1
                assert high - low < 1
        assert found[intervals]["macro_f1"] is not None
    short = summary(found, 3)
    assert [short["f1_low"], short["f1_high"]] == pytest.approx(found["intervals"]["macro_f1"], abs=6e-4)


def test_a_task_without_positive_classes_has_no_interval_of_sensitivity() -> None:
    found = evaluated(*random_outcome(0, ["A", "F", "PT"]))
    assert "sensitivity" not in found["image_level"]
    assert "sensitivity" not in found["intervals"]


def test_cases_that_are_called_right_are_counted_with_the_exact_interval() -> None:
    # Cases 1 to 9 have one image each, right but for the last; case 10 is right by its mean.
    outcome = binary([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1], [0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.3])
    right = evaluated(outcome, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "10"])["cases_right"]
    assert (right["right"], right["of"]) == (9, 10)
    assert right["interval"] == pytest.approx([0.5550, 0.9975], abs=1e-4)  # Clopper and Pearson's table


def test_images_that_are_right_case_by_case_give_a_wider_interval_than_single_images() -> None:
    random = np.random.default_rng(0)
    cases = np.repeat(np.arange(16), 20)
    right = random.random(16) < 0.7  # all images of a case are right or wrong together
    truth = cases % 2
    p = np.where(right[cases], truth, 1 - truth).astype(float)
    outcome = make_outcome(truth, np.stack([1 - p, p], 1), TWO)
    widths = [np.ptp(evaluated(outcome, g)["intervals"]["macro_f1"]) for g in (cases, range(320))]
    assert widths[0] > 2 * widths[1]


def test_the_figures_of_validation_are_three_of_those_of_a_test() -> None:
    outcome, groups = random_outcome(2, EIGHT)
    found = evaluated(outcome, groups)["image_level"]
    assert short_figures(outcome) == {
        "macro_f1": found["macro_f1"], "bal_acc": found["balanced_accuracy"], "roc_auc": found["roc_auc"],
    }  # fmt: skip


def test_magnifications_stand_in_order_with_their_counts() -> None:
    outcome, groups = random_outcome(0, TWO, n=60)
    found = evaluated(outcome, groups, magnification=["400", "40", "", "100"] * 15)["per_magnification"]
    assert list(found) == ["40", "100", "400", "unknown"]
    assert [row["images"] for row in found.values()] == [15] * 4
    assert found["40"]["cases"] == len(set(groups[1::4]))
    assert found["40"]["macro_f1"] == pytest.approx(
        metrics.f1_score(outcome.truth[1::4], outcome.predicted[1::4], average="macro"), abs=1e-6
    )


def nulls_without_reason(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        lost = [f"{path}.{k}" for k, v in value.items() if v is None and k not in value.get("reasons", {})]
        return lost + [p for k, v in value.items() for p in nulls_without_reason(v, f"{path}.{k}")]
    return []


@pytest.mark.parametrize("seed", range(30))
def test_however_poor_the_data_there_is_no_nan_no_warning_and_no_null_without_a_reason(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes, n = (TWO, EIGHT)[seed % 2], int(random.integers(1, 7))
    p = random.random((n, len(classes))) ** 8
    outcome = make_outcome(random.integers(0, len(classes), n), (p / p.sum(1, keepdims=True)).astype("f4"), classes)
    found = evaluated(outcome, random.choice(["", "1", "2", "3"], n), random.choice(["", "40"], n))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert nulls_without_reason(found) == []


def test_the_short_figures_have_the_same_keys_for_both_tasks_and_the_digits_asked_for() -> None:
    short = [summary(evaluated(*random_outcome(0, classes)), 3) for classes in (TWO, EIGHT)]
    assert list(short[0]) == list(short[1]) == ["macro_f1", "f1_low", "f1_high", "bal_acc", "roc_auc", "case_f1"]
    assert all(value == round(value, 3) for row in short for value in row.values() if value is not None)


def test_no_test_image_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DataError, match=r"has no images.*split\.test"):
        make_outcome(np.array([], int), np.empty((0, 2)), TWO)


@pytest.mark.parametrize("row", [[np.nan, np.nan], [np.inf, 0.0], [0.0, 0.0]])
def test_a_probability_that_is_not_a_number_is_an_error_with_a_way_out(row: list[float]) -> None:
    with pytest.raises(DataError, match=r"1 of 2 test images.*train\.learning_rate"):
        make_outcome(np.array([0, 1]), np.array([[0.5, 0.5], row]), TWO)


def test_settle_rounds_and_explains() -> None:
    found = settle({"a": np.float64(0.12345678), "b": Undefined("because"), "c": {"d": [-1e-9]}, "n": 3})
    assert found == {"a": 0.123457, "b": None, "c": {"d": [0.0]}, "n": 3, "reasons": {"b": "because"}}
    assert str(found["c"]["d"][0]) == "0.0"


def test_sensitivity_and_specificity_exist_where_the_task_names_positive_classes_and_there_alone() -> None:
    truth, p = np.array([0, 1, 2, 2]), one_hot(np.array([0, 1, 1, 2]), 3)
    plain = figures(module.make_outcome(truth, p, ["x", "y", "z"]))
    assert not {"sensitivity", "specificity"} & set(plain)
    named = figures(module.make_outcome(truth, p, ["x", "y", "z"], positive=["z"]))
    assert (named["sensitivity"], named["specificity"]) == (0.5, 1.0)
