"""Prediction sets: by known answers, and that they cover what they promise, by simulation."""

import numpy as np
import pytest

from biopsy.evaluation.conformal import conformal_threshold, describe_sets, fewest
from biopsy.evaluation.intervals import clopper_pearson
from biopsy.evaluation.outcome import Names, Outcome, Undefined, make_outcome


def cases(own: list[float], classes: int = 2, per_case: int = 2) -> tuple[Outcome, Names]:
    """Cases whose mean probability of the truth is `own`, its images 0.2 apart; the rest goes to the next class."""
    truth = np.repeat(np.arange(len(own)) % classes, per_case)
    p_own = np.repeat(own, per_case) + np.tile([-0.1, 0.1], len(own))[: len(truth)] * (per_case == 2)
    p = np.zeros((len(truth), classes))
    p[np.arange(len(truth)), truth], p[np.arange(len(truth)), (truth + 1) % classes] = p_own, 1 - p_own
    return make_outcome(truth, p, [f"k{i}" for i in range(classes)]), np.repeat(np.arange(len(own)), per_case).astype(
        str
    )


@pytest.mark.parametrize(("level", "n"), [(0.9, 9), (0.95, 19)])
def test_fewer_cases_than_the_finite_sample_rule_needs_get_a_reason_and_no_set(level: float, n: int) -> None:
    own = np.arange(n) / 100
    assert fewest(level) == n
    assert conformal_threshold(own, level) == own[-1]  # the largest score: with fewer there would be none
    none = conformal_threshold(own[1:], level)
    assert isinstance(none, Undefined)
    assert f"needs {n} cases, and there are {n - 1}" in none.reason
    assert conformal_threshold(np.arange(99) / 100, 0.9) == 0.89  # the 90th of 99


def test_the_validation_cases_set_the_threshold_and_the_test_cases_try_it() -> None:
    val = cases([0.9] * 5 + [0.8, 0.7, 0.6, 0.4])
    test = cases([0.85, 0.5, 0.4, 0.3, 0.7, 0.65, 0.9])  # sets: one, both, both, the wrong one, one, one, one
    found = describe_sets(val, test)
    assert (found["cases"], found["from"]) == (9, "validation")
    assert found["levels"]["0.95"] is None
    assert "needs 19 cases" in found["levels"]["reasons"]["0.95"]
    at = found["levels"]["0.9"]
    exact = clopper_pearson(6, 7)
    assert (at["threshold"], at["covered"], at["of"]) == (0.6, 6, 7)
    assert (at["size"], at["single"], at["empty"]) == (
        pytest.approx(9 / 7, abs=1e-6),
        pytest.approx(5 / 7, abs=1e-6),
        0,
    )
    assert at["interval"] == pytest.approx([exact.low, exact.high], abs=1e-6)
    assert at["lowest"] is None
    assert (at["by_class"]["k0"]["covered"], at["by_class"]["k0"]["of"], at["by_class"]["k1"]["of"]) == (4, 4, 3)
    assert at["by_class"]["k0"]["coverage"] is None  # four cases are too few for a share


def test_a_model_that_is_sure_of_the_wrong_class_has_empty_sets_for_what_it_does_not_know() -> None:
    found = describe_sets(cases([0.95] * 20, classes=3), cases([0.5], classes=3))["levels"]["0.9"]
    assert (found["threshold"], found["empty"], found["coverage"]) == (0.05, 1, 0)


def test_of_a_cross_validation_a_fold_is_tried_by_the_others_so_that_a_bad_fold_shows() -> None:
    own = [0.9, 0.85, 0.8, 0.75, 0.7] * 4
    test = cases([*own[:15], *[0.2] * 5])
    folds = np.repeat([f"1-{i}" for i in range(1, 5)], 10)
    found = describe_sets(test, test, folds)
    assert (found["cases"], found["from"]) == (20, "folds")
    at = found["levels"]["0.9"]
    assert (at["covered"], at["lowest"], at["interval"]) == (15, 0, None)
    assert "not independent" in at["reasons"]["interval"]
    assert found["levels"]["0.95"]["coverage"] is None  # 20 cases set it; the 15 of the other folds cannot try it
    assert "to try it, a set for 95 % needs 19" in found["levels"]["0.95"]["reasons"]["coverage"]


def test_folds_that_divide_a_case_try_no_set() -> None:
    outcome, _ = cases([0.9] * 20)
    outcome = outcome[np.repeat(np.flatnonzero(outcome.truth == 0), 4)]
    n = len(outcome.truth)
    names = np.array([f"c{i // 2}" for i in range(n)])
    whole, torn = (np.array([f"1-{1 + i // step % 2}" for i in range(n)]) for step in (2, 1))
    tried, not_tried = (describe_sets((outcome, names), (outcome, names), f)["levels"]["0.9"] for f in (whole, torn))
    assert (tried["of"], tried["lowest"]) == (n // 2, 1)
    assert not_tried["threshold"] == tried["threshold"]
    assert not_tried["coverage"] is None
    assert "several folds" in not_tried["reasons"]["coverage"]


def test_images_without_a_case_have_no_set() -> None:
    outcome, groups = cases([0.9] * 20)
    found = describe_sets((outcome, groups), (outcome, np.where(groups == "3", "", groups)))
    assert found["levels"]["0.9"] is None
    assert "case is not known" in found["levels"]["reasons"]["0.9"]


@pytest.mark.parametrize(("n", "level"), [(9, 0.9), (24, 0.9), (19, 0.95), (50, 0.95)])
def test_new_cases_are_covered_as_often_as_promised(n: int, level: float) -> None:
    """Without ties a new case is covered with probability ceil((n + 1) level) / (n + 1), however bad the model is."""
    rng, repeats = np.random.default_rng(n), 20_000
    drawn = rng.beta(0.7, 0.6, (repeats, n + 1))
    place = int(np.ceil((n + 1) * level - 1e-9))
    assert [conformal_threshold(row[:n], level) for row in drawn[:50]] == [
        np.sort(r[:n])[place - 1] for r in drawn[:50]
    ]
    share = (drawn[:, n] <= np.sort(drawn[:, :n])[:, place - 1]).mean()
    assert share >= level - 0.006
    assert share == pytest.approx(place / (n + 1), abs=0.006)  # 3 standard errors


def test_leaving_out_a_fold_finds_the_promised_coverage_and_leaving_out_a_case_finds_it_whatever_happens() -> None:
    rng, covered, one_out = np.random.default_rng(0), [], []
    for repeat in range(150):
        shift = 0.0 if repeat % 2 else 0.3  # every other time the last fold's model is far worse
        own = rng.uniform(0.3, 1, 40).round(6) - np.repeat([0, 0, 0, shift], 10)
        test = cases(own.tolist(), per_case=1)
        at = describe_sets(test, test, np.repeat(list("abcd"), 10))["levels"]["0.9"]
        covered.append((at["coverage"], at["lowest"]))
        each = 1 - own
        one_out.append(np.mean([each[i] <= conformal_threshold(np.delete(each, i), 0.9) for i in range(40)]))
    even, worse = np.array(covered[1::2]), np.array(covered[::2])
    assert even[:, 0].mean() == pytest.approx(28 / 31, abs=0.01)
    assert worse[:, 1].mean() < even[:, 1].mean() - 0.1
    assert set(one_out) == {0.9}
