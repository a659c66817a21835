"""How sure a model sounds, whether that holds, and from which score on it calls an image positive."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, log_loss

from biopsy.core.sections.data import Resize
from biopsy.evaluation.calibration import calibration_figures, reliability, uncalibrated
from biopsy.evaluation.operating import choose_threshold, operating_points
from biopsy.evaluation.outcome import Outcome, figures, make_outcome
from biopsy.images.preparation.record import Preparation
from biopsy.networks.answers import answer_images, turned
from biopsy.networks.model_file import Card, read_card, write_card
from biopsy.networks.temperature import FEWEST_CASES, calibrate, fit_temperature
from biopsy.serving.model import Model
from biopsy.training.calibration import Evidence, Unseen, ask, find_temperature
from biopsy.training.train_model import Material
from schemes import BREAKHIS

CARD = Card(
    task="binary", protocol="case", labels=BREAKHIS, preprocessing="x", threshold=0.5, synthetic=True,
    preparation=Preparation(max_pixels=1, resize=Resize(size=32)), backbone_weights_sha256=None, data={}, params={},
    keras="3",
)  # fmt: skip


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def drawn(n: int, c: int, boast: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that sounds `boast` times too sure (in logits), and truths drawn from honest ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, c))
    truth = np.array([rng.choice(c, p=p) for p in softmax(logits)])
    return softmax(boast * logits), truth


class Fixed(ClassifierMixin, BaseEstimator):
    """A classifier whose answers are its input."""

    classes_ = np.arange(3)
    _estimator_type = "classifier"

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Fixed":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.log(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(1)


class Network:
    """Stands for a Keras model: answers with the mean of the pixels, as the probability of the second class."""

    inputs = (np.zeros((1, 4, 4, 3)),)

    def __init__(self) -> None:
        self.asked = 0

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        self.asked += len(pixels)
        return pixels.mean((1, 2, 3))[:, None] / 255


@pytest.mark.parametrize("boast", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_a_model_boasts(boast: float) -> None:
    given, truth = drawn(3000, 3, boast)
    temperature, found = fit_temperature(given, truth, np.arange(3000))
    assert temperature == pytest.approx(boast, rel=0.1)
    assert found.log_loss_after is not None
    assert found.log_loss_after <= found.log_loss_before
    assert (found.images, found.cases, found.reason) == (3000, 3000, None)


def test_the_temperature_of_many_cases_is_that_of_scikit_learn() -> None:
    given, truth = drawn(3000, 3, 2.0, seed=1)
    temperature, found = fit_temperature(given, truth, np.arange(3000))
    theirs = CalibratedClassifierCV(FrozenEstimator(Fixed()), method="temperature").fit(given, truth)
    assert calibrate(given, temperature) == pytest.approx(theirs.predict_proba(given), abs=1e-3)
    assert found.log_loss_after == pytest.approx(log_loss(truth, theirs.predict_proba(given)), abs=1e-5)


@pytest.mark.parametrize(("boast", "most"), [(0.5, 0.0), (1.0, 0.03), (2.0, 0.0), (4.0, -0.2)])
def test_ten_cases_do_not_make_a_model_clearly_worse(boast: float, most: float) -> None:
    """Without the pull towards 1 the test log loss of an honest model grows by 0.14 on average."""
    asked, truth = drawn(4000, 2, boast, seed=99)
    before, worse = log_loss(truth, asked), list[float]()
    for seed in range(60):
        temperature, _ = fit_temperature(*drawn(10, 2, boast, seed), np.arange(10))
        worse.append(log_loss(truth, calibrate(asked, temperature)) - before)
    assert np.mean(worse) < most
    assert np.quantile(worse, 0.9) < 0.1


def test_each_case_counts_the_same_however_many_images_it_has() -> None:
    given, truth = drawn(60, 2, 2.0)
    rows = np.concatenate([np.arange(60), np.zeros(200, int)])
    assert fit_temperature(given[rows], truth[rows], rows)[0] == fit_temperature(given, truth, np.arange(60))[0]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_temperature_can_be_undone_and_changes_no_choice(temperature: float) -> None:
    given = drawn(50, 4, 1.0)[0]
    changed = calibrate(given, temperature)
    assert changed.sum(1) == pytest.approx(1)
    assert (changed.argmax(1) == given.argmax(1)).all()
    assert calibrate(changed, 1 / temperature) == pytest.approx(given)
    two = drawn(50, 2, 1.0)[0]
    assert calibrate(two[:, 1:], temperature)[:, 0] == pytest.approx(calibrate(two, temperature)[:, 1])


GIVEN, TRUTH = drawn(40, 2, 1.0)


@pytest.mark.parametrize(
    ("given", "truth", "cases", "word"),
    [
        (GIVEN, TRUTH, np.arange(40) % (FEWEST_CASES - 1), "too few validation cases: 9"),
        (GIVEN, np.ones(40, int), np.arange(40), "one class"),
        (GIVEN, GIVEN.argmax(1), np.arange(40), "every validation image is right"),
        (GIVEN * np.nan, TRUTH, np.arange(40), "not numbers"),
        (np.full((40, 2), 0.5), TRUTH, np.arange(40), "the same probabilities"),
        (GIVEN[:0], TRUTH[:0], np.arange(0), "too few validation cases: 0"),
    ],
    ids=["few", "one class", "all right", "nan", "equal", "none"],
)
def test_where_nothing_can_be_fitted_the_temperature_is_1_with_a_reason(
    given: np.ndarray, truth: np.ndarray, cases: np.ndarray, word: str
) -> None:
    temperature, found = fit_temperature(given, truth, cases)
    assert temperature == 1
    assert word in str(found.reason)
    assert found.log_loss_before is None


def unseen(given: np.ndarray, targets: np.ndarray, cases: np.ndarray, start: int = 0) -> Unseen:
    """Images that are numbered from `start`."""
    ids = np.arange(start, start + len(targets)).astype(str)
    return Unseen(ids, cases.astype(str), targets, given)


def test_where_validation_does_not_suffice_the_inner_folds_of_a_probe_are_added() -> None:
    given, truth = drawn(340, 3, 4.0, seed=2)
    few, many = np.arange(340) % 300, np.arange(340)
    few[300:] = 300 + np.arange(40) // 5  # 8 cases of validation
    inner = unseen(given[:300], truth[:300], few[:300])
    val = {name: unseen(given[300:], truth[300:], cases[300:], 300) for name, cases in (("few", few), ("many", many))}
    temperature, found = find_temperature(Evidence(val["few"], inner, frozenset()), [])
    assert (temperature, found.part, found.images, found.cases) == (pytest.approx(5, rel=0.3), "train", 340, 308)
    assert temperature == fit_temperature(given, truth, few.astype(str))[0]
    temperature, found = find_temperature(Evidence(val["many"], inner, frozenset()), [])
    assert (temperature, found.part, found.cases) == (
        fit_temperature(given[300:], truth[300:], many[300:])[0],
        "val",
        40,
    )
    temperature, found = find_temperature(Evidence(val["few"], None, frozenset()), [])
    assert (temperature, found.part) == (1, "val")
    assert "too few validation cases: 8" in str(found.reason)


def test_images_of_a_class_that_the_model_has_not_learnt_take_no_part() -> None:
    """One in a thousand of them, with a probability of e^-30, would set the temperature."""
    given, truth = drawn(300, 3, 1.0, seed=3)
    names, part = np.arange(300).astype(str), np.arange(300) < 100  # the first 100 are training images
    truth[5] = truth[150] = 2
    learnt = np.where((truth == 2) & part, 0, truth)
    table = pd.DataFrame({"image_id": names, "case": names, "slide": names, "target": learnt})
    material = Material(CARD, table, 100, images=None, extra=None, tested=frozenset())  # type: ignore[arg-type]
    found = material.unseen(slice(100, None), given[100:])
    kept = np.arange(300)[~part & (truth != 2)]
    assert found.ids.tolist() == names[kept].tolist()
    np.testing.assert_array_equal(found.given, given[kept])
    found.given[3:7] = np.nan
    assert found.answered().ids.tolist() == names[np.delete(kept, np.s_[3:7])].tolist()


def test_of_folds_the_validation_images_of_all_are_used_but_not_those_that_are_tested() -> None:
    given, truth = drawn(300, 2, 3.0, seed=5)
    cases = np.arange(300) // 2
    folds = [unseen(given[s : s + 60], truth[s : s + 60], cases[s : s + 60], s) for s in range(0, 300, 60)]
    tested = frozenset(map(str, range(60, 120)))
    temperature, found = find_temperature(Evidence(folds[0], None, tested), folds[1:])
    kept = np.r_[0:60, 120:300]
    assert (found.part, found.images, found.cases, found.reason) == ("folds", 240, 120, None)
    assert temperature == fit_temperature(given[kept], truth[kept], cases[kept])[0] != 1
    few = [unseen(one.given, one.targets, np.zeros(60)) for one in folds]
    temperature, found = find_temperature(Evidence(few[0], None, frozenset()), few[1:])
    assert (temperature, found.part) == (1, "val")


def test_a_loaded_model_answers_with_calibrated_probabilities() -> None:
    model: Any = Model.__new__(Model)
    model._onnx, model.network, model.card = None, Network(), CARD.model_copy(update={"temperature": 2.0})
    white = np.full((1, 1, 4, 4, 3), 204, np.uint8)  # 0.8 of the way: odds of 4, whose square root is 2
    assert model.probabilities(white) == pytest.approx(np.array([[1 / 3, 2 / 3]]), abs=1e-6)


class Corner(Network):
    """Answers with the upper left pixel of each square, or of the first of its tiles: each turn gives another one."""

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), -1)[:, :1] / 255


@pytest.mark.parametrize("together", [False, True])
def test_flips_and_turns_of_each_tile_are_asked_about_and_averaged_before_the_temperature(together: bool) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 2, 4, 4, 3)).astype(np.float32)
    network: Any = Corner()
    network.inputs = (np.zeros((1, 2, 4, 4, 3)),) if together else Corner.inputs
    seen = pixels[:, :1] if together else pixels
    four = [seen[:, :, i, j, 0] for i in (0, -1) for j in (0, -1)]
    expected = np.mean(four, axis=(0, 2))[:, None] / 255
    for tta in ("flips", "d4"):  # the corners of a square that is turned on its side are the same four
        given = answer_images(network, pixels, 2.0, tta)
        np.testing.assert_allclose(given, calibrate(expected, 2.0), rtol=1e-5)
    alone = answer_images(network, pixels, 2.0, "none")
    np.testing.assert_allclose(alone, calibrate(seen[:, :, 0, 0, 0].mean(1)[:, None] / 255, 2.0), rtol=1e-5)
    np.testing.assert_allclose(ask(network, pixels.astype(np.uint8), None, "d4"), expected, rtol=1e-5)


def test_the_eight_turns_are_the_flips_and_quarter_turns_of_a_square() -> None:
    square = np.arange(27).reshape(1, 3, 3, 3)
    found = {turn.tobytes() for turn in turned(square, "d4")}
    rotated = [np.rot90(side, k, (1, 2)) for side in (square, square[:, :, ::-1]) for k in range(4)]
    assert found == {np.ascontiguousarray(each).tobytes() for each in rotated}
    assert len(found) == 8
    flips = {turn.tobytes() for turn in turned(square, "flips")}
    assert flips == {np.ascontiguousarray(e).tobytes() for e in (*rotated[::2], *rotated[4::2])}


def test_a_card_of_a_version_that_did_not_calibrate_has_temperature_1(tmp_path: Path) -> None:
    write_card(tmp_path, CARD)
    content = json.loads((tmp_path / "model.json").read_text())
    from biopsy.networks.model_file import _digest

    old = {key: value for key, value in content.items() if key not in ("temperature", "calibration", "card_sha256")}
    (tmp_path / "model.json").write_text(json.dumps({**old, "card_sha256": _digest(old)}))
    card = read_card(tmp_path)
    assert (card.temperature, card.calibration, card.tta) == (1.0, None, "none")


def two(probability: list[float], truth: list[int], positive: tuple[str, ...] = ("malignant",)) -> Outcome:
    p = np.array(probability, float)
    return make_outcome(np.array(truth), np.stack([1 - p, p], 1), ["benign", "malignant"], 0.5, positive)


def test_the_figures_of_calibration_are_those_of_pencil_and_paper() -> None:
    outcome = two([0.9, 0.9, 0.9, 0.9, 0.2, 0.2], [1, 1, 1, 0, 0, 1])
    found = calibration_figures(outcome)
    assert found["ece"] == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)
    assert found["brier"] == pytest.approx(brier_score_loss(outcome.truth, outcome.probabilities[:, 1]))
    assert found["log_loss"] == pytest.approx(log_loss(outcome.truth, outcome.probabilities))
    given, truth = drawn(80, 5, 2.0)
    many = make_outcome(truth, given, list("abcde"))
    assert calibration_figures(many)["brier"] == pytest.approx(brier_score_loss(truth, given))


def test_a_truth_that_was_given_no_probability_has_one_log_loss_in_all_tables() -> None:
    outcome = two([0.0, 1.0], [1, 1])
    assert calibration_figures(outcome)["log_loss"] == figures(outcome)["log_loss"] == pytest.approx(18.02, abs=0.01)


def test_a_bin_says_what_was_stated_what_came_true_and_counts_cases_in_its_band() -> None:
    outcome = two([0.91, 0.93, 0.92, 0.05], [1, 1, 0, 0])
    low, high = reliability(outcome, np.array(["a", "a", "b", "c"]))
    assert (low["stated"], low["true"], low["images"], low["cases"]) == (pytest.approx(0.05), 0, 1, 1)
    assert (high["stated"], high["true"], high["cases"]) == (pytest.approx(0.92), pytest.approx(2 / 3), 2)
    assert high["low"] < 0.2 < 0.95 < high["high"]  # two cases, however many images
    assert reliability(outcome, np.array(["", "", "", ""]))[1]["cases"] is None


def test_the_temperature_of_each_fold_is_undone_by_itself() -> None:
    given = drawn(6, 3, 1.0)[0]
    temperatures = np.array([1, 1, 2, 2, 3, 3.0])
    changed = np.stack([calibrate(row[None], t)[0] for row, t in zip(given, temperatures, strict=True)])
    outcome = make_outcome(np.zeros(6, int), changed, list("abc"))
    assert uncalibrated(outcome, temperatures).probabilities == pytest.approx(given)


def test_the_threshold_is_the_largest_that_finds_the_share_of_positives() -> None:
    score, positive = np.arange(40) / 40, np.arange(40) >= 20
    assert choose_threshold(score, positive, 0.95) == 21 / 40  # 19 of 20
    assert choose_threshold(score, positive, 0.96) == 20 / 40
    assert choose_threshold(score, positive, 0.5) == 30 / 40


def test_an_operating_point_is_chosen_on_validation_and_reported_on_test_by_image_and_by_case() -> None:
    val = two([0.7, 0.8, 0.6, 0.1, 0.3, 0.65], [1, 1, 1, 0, 0, 0])
    test = two([0.9, 0.5, 0.62, 0.2, 0.7, 0.1], [1, 1, 1, 0, 0, 0])
    cases = np.array(["a", "a", "b", "c", "d", "d"])
    found = operating_points((val, np.array(list("uvwxyz"))), (test, cases), 0.95)
    image = found["image"]
    assert image["threshold"] == pytest.approx(0.6)
    assert (image["val"]["sensitivity"]["share"], image["val"]["specificity"]["share"]) == (
        1,
        pytest.approx(2 / 3, abs=1e-6),
    )
    assert {n: (f["right"], f["of"]) for n, f in image["test"].items()} == {
        "sensitivity": (2, 3),
        "specificity": (2, 3),
    }
    assert "too few cases" in image["test"]["sensitivity"]["reason"]
    of_case = found["case"]["test"]["sensitivity"]  # a: 0.7, b: 0.62, both found
    assert (of_case["right"], of_case["of"]) == (2, 2)
    assert of_case["interval"] == pytest.approx([0.025**0.5, 1], abs=1e-3)  # exact, of 2 of 2


def test_the_operating_point_as_it_is_written_finds_the_image_that_it_was_taken_from() -> None:
    val = two([0.3000006, 0.8, 0.1, 0.2], [1, 1, 0, 0])
    test = two([0.3000006, 0.9] * 6 + [0.1] * 12, [1] * 12 + [0] * 12)
    found = operating_points((val, np.array(list("abcd"))), (test, np.arange(24).astype(str)), 0.95)["image"]
    written, figures = found["threshold"], found["test"]["sensitivity"]
    assert written == round(written, 6)
    assert found["val"]["sensitivity"]["share"] == 1
    low, high = figures["interval"]
    assert low <= figures["share"] <= high == 1  # the interval is of the same threshold as the share


def test_where_there_is_no_operating_point_the_reason_is_given() -> None:
    good, known = two([0.2, 0.8, 0.3, 0.9], [0, 1, 0, 1]), np.array(list("abcd"))
    negative, equal = two([0.2, 0.8], [0, 0]), two([0.5] * 4, [0, 1, 0, 1])
    without = operating_points((two([0.2, 0.8], [0, 1], ()), known[:2]), (two([0.2], [0], ()), known[:1]), 0.95)
    assert "no positive classes" in without["reason"]
    assert "nothing positive" in operating_points((negative, known[:2]), (good, known), 0.95)["image"]["reason"]
    assert "the same probability" in operating_points((equal, known), (good, known), 0.95)["image"]["reason"]
    unknown = operating_points((good, known), (good, np.array(["", "b", "c", "d"])), 0.95)
    assert "case is not known" in unknown["case"]["reason"]
    assert "case is not known" in unknown["image"]["test"]["sensitivity"]["reason"]
    one = operating_points((good, known), (negative, known[:2]), 0.95)["image"]["test"]["sensitivity"]
    assert (one["of"], one["share"]) == (0, None)
