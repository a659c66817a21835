"""Intervals over cases: by hand, against scikit-learn, with too few cases, and what they cover."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from biopsy.evaluation.comparison import Difference, delong, paired_difference
from biopsy.evaluation.figures import evaluate_outcome
from biopsy.evaluation.intervals import Interval, clopper_pearson, figure_intervals
from biopsy.evaluation.jackknife import FIGURES, leave_one_out
from biopsy.evaluation.outcome import Undefined, make_outcome

pytestmark = pytest.mark.filterwarnings("error")

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(random: np.random.Generator, counts: tuple[int, ...], images: int = 10, skill: float = 1.5) -> Arrays:
    """Truth, probabilities and cases of a model; the images of a case share an effect."""
    kind = np.repeat(np.arange(len(counts)), counts)
    cases = np.repeat(np.arange(len(kind)), images)
    logits = skill * np.eye(len(counts))[kind][cases] + random.normal(size=(len(kind), len(counts)))[cases]
    odds = np.exp(logits + random.normal(size=logits.shape))
    return kind[cases], odds / odds.sum(1, keepdims=True), cases


def answers(truth: list[int], chosen: list[int], images: int = 1) -> Arrays:
    """A model that is sure of its answers, the same ones for all images of a case."""
    cases = np.repeat(np.arange(len(truth)), images)
    return np.array(truth)[cases], np.eye(2)[np.array(chosen)][cases], cases


def bounds(found: Interval | Undefined) -> tuple[float, float]:
    assert isinstance(found, Interval), found
    return found.low, found.high


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(8, 8, 0.6306, 1.0), (0, 8, 0.0, 0.3694), (7, 9, 0.3999, 0.9719), (1, 1, 0.025, 1)]
)
def test_the_exact_interval_equals_published_tables(right: int, n: int, low: float, high: float) -> None:
    assert bounds(clopper_pearson(right, n)) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("right", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_an_impossible_count_is_an_error(right: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"Got {right} of {n}"):
        clopper_pearson(right, n)


def test_cases_that_are_all_right_do_not_promise_that_the_next_will_be() -> None:
    truth, p, cases = answers([0] * 4 + [1] * 8, [0] * 4 + [1] * 8)
    found = figure_intervals(truth, p, cases, [1])
    assert found["sensitivity"] == clopper_pearson(8, 8)
    for name in ("macro_f1", "balanced_accuracy", "roc_auc"):
        low, high = bounds(found[name])
        assert 0.5 < low < 0.75
        assert high == 1.0


def test_images_of_cases_that_are_all_right_say_no_more_than_the_cases() -> None:
    truth, p, cases = answers([0] * 4 + [1] * 8, [0] * 4 + [1] * 8, images=50)
    assert bounds(figure_intervals(truth, p, cases, [1])["sensitivity"])[0] < 0.7


@pytest.mark.parametrize("images", [2, 20])
def test_calling_everything_malignant_never_reaches_a_perfect_score(images: int) -> None:
    truth, p, cases = answers([0] * 2 + [1] * 7, [1] * 9, images)
    found = figure_intervals(truth, p, cases, [1])
    low, high = bounds(found["macro_f1"])
    assert low < 0.4375 < high < 0.9  # the bootstrap over unstratified cases said .308 to 1.000
    assert bounds(found["balanced_accuracy"])[1] < 0.9


def test_every_case_left_out_keeps_the_mix_and_all_classes_and_equals_scikit_learn_with_weights() -> None:
    random = np.random.default_rng(0)
    truth, p, cases = simulated(random, (2, 3, 4), images=5)
    truth[0] = 2  # a case with images of two classes
    p = p.round(1) + 0.01  # ties
    found, figures = leave_one_out(truth, p, cases, [1, 2], 0.5)
    for case, stratum in enumerate(found.stratum):
        k = (found.stratum == stratum).sum()
        weights = np.where(found.stratum == stratum, k / (k - 1), 1.0)
        weights[case] = 0
        kept: dict[str, Any] = {"sample_weight": weights[cases]}
        chosen, ill, called = p.argmax(1), truth > 0, p[:, 1:].sum(1) >= 0.5
        expected = {
            "accuracy": metrics.accuracy_score(truth, chosen, **kept),
            "macro_f1": metrics.f1_score(truth, chosen, average="macro", **kept),
            "balanced_accuracy": metrics.recall_score(truth, chosen, average="macro", **kept),
            "roc_auc": np.mean([metrics.roc_auc_score(truth == c, p[:, c], **kept) for c in range(3)]),
            "sensitivity": metrics.recall_score(ill, called, **kept),
            "specificity": metrics.recall_score(~ill, ~called, **kept),
        }
        assert {name: figures[name].without[case] for name in FIGURES} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "truth", "positive"),
    [
        (np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]] * 8), [0, 1, 0] * 8, [0]),  # a tie is called the second class
        (np.repeat([[3.0, 3, 1, 1, 1, 2, 0, 3]], 24, 0) / 14, [0, 3, 5] * 8, [7, 5, 4, 3]),  # 0.5 only in one order
    ],
)
def test_sensitivity_and_specificity_are_the_same_in_an_interval_as_in_the_table(
    p: np.ndarray, truth: list[int], positive: list[int]
) -> None:
    names = [f"class {i}" for i in range(p.shape[1])]
    outcome = make_outcome(np.array(truth), p, names, 0.5, [names[i] for i in positive])
    table = evaluate_outcome(outcome, np.array([f"case {i}" for i in range(len(truth))]), np.full(len(truth), ""))
    for name in ("sensitivity", "specificity"):
        low, high = table["intervals"][name]
        assert low <= table["image_level"][name] <= high, name


@pytest.mark.parametrize("seed", range(20))
def test_intervals_hold_their_figure_and_depend_on_no_order_and_no_name(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = tuple(random.integers(2, 7, int(random.integers(2, 5))))
    truth, p, cases = simulated(random, counts, images=int(random.integers(1, 6)), skill=random.uniform(0, 4))
    positive = [len(counts) - 1]
    found = figure_intervals(truth, p, cases, positive)
    _, figures = leave_one_out(truth, p, cases, positive, 0.5)
    order = random.permutation(len(truth))
    names = np.array([f"case {9 * c % 97}" for c in cases])
    turned = figure_intervals(truth[order], p[order], names[order], positive)
    for name in FIGURES:
        one, other = found[name], turned[name]
        if isinstance(one, Undefined):
            assert one == other
            continue
        assert bounds(one) == pytest.approx(bounds(other))
        assert 0 <= one.low <= figures[name].estimate + 1e-9
        assert figures[name].estimate - 1e-9 <= one.high <= 1
        assert one.high - one.low > 0.02


def test_a_higher_level_is_wider_and_more_cases_are_narrower() -> None:
    truth, p, cases = simulated(np.random.default_rng(3), (6, 12))
    few = bounds(figure_intervals(truth, p, cases, [1])["macro_f1"])
    sure = bounds(figure_intervals(truth, p, cases, [1], level=0.99)["macro_f1"])
    more = np.concatenate([cases, cases + 18, cases + 36, cases + 54])
    many = bounds(figure_intervals(np.tile(truth, 4), np.tile(p, (4, 1)), more, [1])["macro_f1"])
    assert np.ptp(sure) > np.ptp(few) > 1.5 * np.ptp(many)


def test_copies_of_images_are_no_new_cases() -> None:
    truth, p, cases = simulated(np.random.default_rng(3), (6, 12))
    one = figure_intervals(truth, p, cases, [1])
    copied = figure_intervals(np.tile(truth, 5), np.tile(p, (5, 1)), np.tile(cases, 5), [1])
    for name in FIGURES:
        assert bounds(copied[name]) == pytest.approx(bounds(one[name]))


@pytest.mark.parametrize(
    ("counts", "name", "reason"),
    [
        ((2, 4), "macro_f1", "too few cases: 6 cases are tested, an interval needs 8"),
        ((3, 9), "specificity", "too few cases: 3 negative cases are tested, an interval needs 6"),
        ((9, 5), "sensitivity", "too few cases: 5 positive cases are tested, an interval needs 6"),
        ((1, 9), "roc_auc", "too few cases: one class has 1, an interval needs 2 of each class"),
        ((9, 0), "macro_f1", "only one class is tested"),
        ((1, 1, 1, 1, 1, 1, 1, 1), "accuracy", "8 cases are tested, an interval over their classes needs 16"),
    ],
)
def test_too_few_cases_have_no_interval_but_a_reason(counts: tuple[int, ...], name: str, reason: str) -> None:
    found = figure_intervals(*simulated(np.random.default_rng(0), counts), [1])[name]
    assert isinstance(found, Undefined)
    assert found.reason.endswith(reason)


def test_macro_figures_of_nine_whole_cases_take_too_few_values_for_an_interval() -> None:
    found = figure_intervals(*simulated(np.random.default_rng(0), (3, 6), images=1), [1])
    assert found["macro_f1"] == Undefined("too few cases: 9 cases are tested, an interval needs 12")
    assert isinstance(found["accuracy"], Interval)


def test_a_class_that_is_no_cases_main_one_has_no_interval_of_macro_figures() -> None:
    truth, p, cases = simulated(np.random.default_rng(0), (5, 5, 1))
    cases[truth == 2] = 0  # its images stand in a case of class 0, which has as many: class 0 is first
    found = figure_intervals(truth, p, cases, [1])
    assert found["macro_f1"] == Undefined("too few cases: one class has 0, an interval needs 2 of each class")
    assert isinstance(found["accuracy"], Interval)


def test_nine_cases_cover_the_true_figure() -> None:
    """200 test sets, 3 and 6 cases: percentile intervals cover balanced accuracy in about .8 of them."""
    random = np.random.default_rng(0)
    truth, p, _ = simulated(random, (4000, 4000), images=5)
    right = p.argmax(1) == truth
    true = {"balanced_accuracy": right.mean(), "roc_auc": metrics.roc_auc_score(truth, p[:, 1])}
    covered = np.zeros((200, 2))
    for row in covered:
        found = figure_intervals(*simulated(random, (3, 6), images=5), [1])
        row[:] = [np.clip(value, *bounds(found[name])) == value for name, value in true.items()]
    assert (covered.mean(0) >= 0.9).all()
    assert covered.mean() < 1  # an interval of 0 to 1 would always cover


def difference(found: Difference | Undefined) -> Difference:
    assert isinstance(found, Difference), found
    return found


def test_a_clearly_better_model_is_shown_to_be_better_and_the_order_turns_the_sign() -> None:
    random = np.random.default_rng(0)
    truth, poor, cases = simulated(random, (10, 20), skill=0.2)
    _, good, _ = simulated(random, (10, 20), skill=4)
    forward = difference(paired_difference(truth, poor, good, cases, [1])["macro_f1"])
    back = difference(paired_difference(truth, good, poor, cases, [1])["macro_f1"])
    assert forward.shown
    assert forward.verdict("macro-F1").startswith("The second model's macro-F1 is higher (+0.")
    assert back.verdict("macro-F1").startswith("The second model's macro-F1 is lower (-0.")
    assert (back.estimate, back.interval.low) == pytest.approx((-forward.estimate, -forward.interval.high))


def test_a_model_against_itself_shows_nothing_and_says_what_could_have_been_shown() -> None:
    truth, p, cases = simulated(np.random.default_rng(0), (3, 6))
    found = paired_difference(truth, p, p, cases, [1])
    same = difference(found["macro_f1"])
    assert same.estimate == 0
    assert same.interval.low < -0.05 < 0.05 < same.interval.high
    assert same.smallest > same.interval.high
    assert same.verdict("macro-F1").startswith("No difference in macro-F1 is shown (+0.000")
    assert same.verdict("macro-F1").endswith(f"these cases could have shown one of {same.smallest:.2f}.")
    assert isinstance(found["specificity"], Undefined)


def test_two_equal_models_are_seldom_told_apart() -> None:
    random, told = np.random.default_rng(0), np.zeros((200, 2))
    for row in told:
        truth, one, cases = simulated(random, (4, 8), images=4, skill=1)
        _, other, _ = simulated(random, (4, 8), images=4, skill=1)
        found = paired_difference(truth, one, other, cases, [1])
        row[:] = [difference(found[name]).shown for name in ("balanced_accuracy", "roc_auc")]
    assert (told.mean(0) <= 0.08).all()


def test_models_of_different_images_cannot_be_compared() -> None:
    truth, p, cases = simulated(np.random.default_rng(0), (4, 8))
    with pytest.raises(ValueError, match="on the same rows"):
        paired_difference(truth, p, p[1:], cases, [1])


def test_delong_by_hand() -> None:
    truth = np.array([False, False, True, True])
    found = delong(truth, np.array([0.1, 0.6, 0.4, 0.9]), np.array([0.1, 0.2, 0.8, 0.9]))
    # first: pairs won 3 of 4; placements of positives .5, 1, of negatives 1, .5; variance of each .125 / 2
    assert (found.first, found.second) == (0.75, 1.0)
    assert found.error == pytest.approx(np.sqrt(2 * 0.125 / 2))
    assert found.p_value == pytest.approx(0.4795, abs=1e-4)
    assert delong(truth, np.arange(4.0), np.arange(4.0)).p_value == 1


def test_delong_needs_two_cases_of_each_kind() -> None:
    with pytest.raises(ValueError, match="Got 1 and 2"):
        delong(np.array([True, False, False]), np.zeros(3), np.zeros(3))
