"""Net benefit, by known answers."""

import numpy as np
import pytest

from biopsy.evaluation.decision import THRESHOLDS, better, decision_curve, net_benefit
from biopsy.evaluation.outcome import Outcome, make_outcome


def binary(malignant: list[float], truth: list[int], positive: tuple[str, ...] = ("m",)) -> Outcome:
    p = np.array(malignant)
    return make_outcome(np.array(truth), np.stack([1 - p, p], 1), ["b", "m"], 0.5, positive)


def test_a_false_alarm_weighs_the_odds_of_the_threshold() -> None:
    called, positive = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    assert net_benefit(called, positive, 0.2) == pytest.approx(2 / 5 - 1 / 5 * 0.25)
    assert net_benefit(called, positive, 0.5) == pytest.approx(2 / 5 - 1 / 5)


def test_a_perfect_model_has_the_share_of_positives_everywhere_and_acting_on_everybody_its_known_line() -> None:
    found = decision_curve(binary([1, 0, 0, 0], [1, 0, 0, 0]), np.array(list("abcd")))
    curve = found["curve"]
    assert (found["unit"], found["of"]) == ("case", 4)
    assert curve["model"] == pytest.approx([0.25] * len(THRESHOLDS))
    assert curve["all"] == pytest.approx(0.25 - 0.75 * THRESHOLDS / (1 - THRESHOLDS), abs=1e-6)
    assert curve["all"][curve["threshold"].index(0.25)] == 0  # at the share of positives
    assert better(curve) == [(0.025, 0.975)]


def test_a_model_that_tells_nothing_is_everybody_below_its_probability_and_nobody_above() -> None:
    curve = decision_curve(binary([0.5] * 4, [1, 0, 0, 1]), np.array(list("abcd")))["curve"]
    low = THRESHOLDS <= 0.5
    assert curve["model"] == pytest.approx(np.where(low, curve["all"], 0))
    assert better(curve) == []


def test_cases_are_counted_where_they_are_known_and_images_else() -> None:
    outcome = binary([0.9, 0.1, 0.2], [1, 1, 0])  # the case's mean is 0.5
    of_cases = decision_curve(outcome, np.array(["x", "x", "y"]))
    assert (of_cases["unit"], of_cases["of"]) == ("case", 2)
    at = of_cases["curve"]["threshold"].index(0.5)
    assert (of_cases["curve"]["model"][at], of_cases["curve"]["model"][at + 1]) == (0.5, 0)
    of_images = decision_curve(outcome, np.array(["", "x", "y"]))
    assert (of_images["unit"], of_images["curve"]["model"][at]) == ("image", pytest.approx(1 / 3, abs=1e-6))


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (binary([0.9, 0.1], [1, 0], ()), "no positive classes"),
        (binary([0.9, 0.1], [1, 1]), "nothing negative"),
        (binary([0.9], [0]), "nothing positive"),
    ],
)
def test_where_there_is_no_curve_the_reason_is_given(outcome: Outcome, says: str) -> None:
    found = decision_curve(outcome, np.array(["a"] * len(outcome.truth)))
    assert found["curve"] is None
    assert says in found["reasons"]["curve"]
