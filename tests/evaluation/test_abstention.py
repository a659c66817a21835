"""Risk and coverage, and the rule to abstain: by known answers."""

import numpy as np
import pytest

from biopsy.evaluation.abstention import choose_confidence, describe_abstention, risk_curve
from biopsy.evaluation.intervals import clopper_pearson
from biopsy.evaluation.outcome import Names, Outcome, Undefined, make_outcome
from biopsy.evaluation.pooling import average


def sure(confidences: list[float], wrong: list[int], per_case: int = 1) -> tuple[Outcome, Names]:
    """Two classes in turn, each case `per_case` images; where wrong, the confidence goes to the other class."""
    truth = np.arange(len(wrong)) // per_case % 2
    p = np.empty((len(wrong), 2))
    called = np.where(np.array(wrong, bool), 1 - truth, truth)
    p[np.arange(len(wrong)), called], p[np.arange(len(wrong)), 1 - called] = confidences, 1 - np.array(confidences)
    return make_outcome(truth, p, ["a", "b"]), np.array([f"c{i // per_case}" for i in range(len(wrong))])


def test_the_curve_is_the_error_of_the_surest_and_its_area_is_the_mean() -> None:
    wrong, confidence = np.array([1, 0, 0, 1], bool), np.array([0.6, 0.9, 0.8, 0.7])
    assert risk_curve(wrong, confidence) == pytest.approx([0, 0, 1 / 3, 1 / 2])
    part = describe_abstention(sure([0.6, 0.9, 0.8, 0.7], [1, 0, 0, 1]), sure([0.6, 0.9, 0.8, 0.7], [1, 0, 0, 1]), 0.05)
    assert part["image"]["area"] == pytest.approx(5 / 24, abs=1e-6)
    assert part["image"]["area_best"] == pytest.approx(5 / 24, abs=1e-6)  # both errors are the least sure
    assert part["image"]["risk"] == pytest.approx([0] * 10 + [1 / 3] * 5 + [0.5] * 5, abs=1e-6)


def test_equal_confidences_tell_nothing_whatever_the_order_of_the_rows() -> None:
    wrong = np.array([1, 1, 0, 0, 0], bool)
    for order in (slice(None), slice(None, None, -1)):
        assert risk_curve(wrong[order], np.full(5, 0.8)) == pytest.approx([0.4] * 5)


def test_the_rule_answers_as_many_as_the_target_allows_and_is_reported_on_test() -> None:
    levels = np.linspace(0.99, 0.6, 20).round(2).tolist()
    val = sure(levels, [0] * 9 + [1] + [0] * 9 + [1])  # 1 of 10, ..., 1 of 19, 2 of 20
    for target, answered in ((0.05, 9), (0.06, 19), (0.1, 20)):
        assert choose_confidence(*val, target) == levels[answered - 1]
    test = sure([0.97, 0.95, 0.9, 0.7, 0.65, 0.9], [0, 0, 1, 1, 0, 0])
    found = describe_abstention(val, test, 0.05)
    for unit in ("image", "case"):  # each image is a case of its own
        rule = found[unit]["rule"]
        assert rule["val"] == {"answered": 9, "of": 20, "wrong": 0}
        assert {k: rule["test"][k] for k in ("answered", "of", "cases", "wrong")} == {
            "answered": 4, "of": 6, "cases": 4, "wrong": 1,
        }  # fmt: skip
    exact = clopper_pearson(1, 4)
    assert found["case"]["rule"]["test"]["interval"] == pytest.approx([exact.low, exact.high], abs=1e-6)
    assert "too few cases" in found["image"]["rule"]["test"]["reasons"]["interval"]


def test_images_of_a_case_do_not_count_as_independent() -> None:
    rng = np.random.default_rng(0)
    wrong = np.repeat(rng.random(40) < 0.1, 10).astype(int).tolist()  # cases wholly right or wrong
    part = sure([0.9] * 400, wrong, per_case=10)
    tested = describe_abstention(part, part, 0.5)["image"]["rule"]["test"]
    low, high = tested["interval"]
    assert low < tested["error"] < high
    naive = clopper_pearson(tested["wrong"], tested["answered"])
    assert high - low > 2 * (naive.high - naive.low)


@pytest.mark.parametrize(
    ("val", "says"),
    [
        (sure([0.9] * 9, [0] * 9), "validation has 9, a rule needs 10"),
        (sure([0.9] * 90, [0] * 90, per_case=10), "validation has 9, a rule needs 10"),
        (sure([0.9] * 20, [1, 0] * 10), "does not reach an error of 0.05"),
        (sure([0.99] * 4 + [0.8] * 16, [0] * 4 + [1] * 16), "that has 5 cases or more"),
        ((sure([0.9] * 10, [0] * 10)[0], np.array([""] * 10)), "case is not known"),
    ],
)
def test_where_there_is_no_rule_the_reason_is_given(val: tuple[Outcome, Names], says: str) -> None:
    found = choose_confidence(*val, 0.05)
    assert isinstance(found, Undefined)
    assert says in found.reason
    part = describe_abstention(val, sure([0.9], [0]), 0.05)["image"]
    assert part["rule"] is None
    assert says in part["reasons"]["rule"]


def test_a_test_part_without_a_sure_image_or_with_one_case_gets_words() -> None:
    val = sure([0.9] * 10, [0] * 10)
    nothing = describe_abstention(val, sure([0.6, 0.7], [0, 1]), 0.05)["case"]["rule"]["test"]
    assert (nothing["answered"], nothing["error"]) == (0, None)
    assert "nothing in the test part is sure enough" in nothing["reasons"]["error"]
    one = describe_abstention(val, sure([0.95] * 3, [0, 0, 1], per_case=3), 0.05)
    assert (one["image"]["rule"]["test"]["error"], one["case"]["rule"]["test"]["of"]) == (
        pytest.approx(1 / 3, abs=1e-6),
        1,
    )
    assert "too few cases" in one["image"]["rule"]["test"]["reasons"]["interval"]


def test_repeats_are_averaged_and_a_rule_that_one_repeat_lacks_is_none() -> None:
    val, test = sure([0.9] * 10, [0] * 10), sure([0.95, 0.6], [0, 1])
    both = [describe_abstention(v, test, 0.05) for v in (val, sure([0.9] * 9, [0] * 9))]
    mean = average(both)["case"]
    assert mean["rule"] is None
    assert "too few cases" in mean["reasons"]["rule"]
    assert mean["risk"] == both[0]["case"]["risk"]
