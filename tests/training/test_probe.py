"""The probe: what its weights depend on, how it is chosen, and that the saved network answers as scikit-learn does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.sections.model import Probe
from biopsy.core.sections.train import Loss, Train
from biopsy.training import plots, probe
from biopsy.training.probe import FALLBACK, FittedProbe, fit_probe, grouped_folds, sample_weights, without_effect
from biopsy.training.probe_layers import FittedLayers, Part

CASES = np.repeat(np.arange(16), np.arange(16) % 4 + 1)  # of one to four images
CLASSES = {2: (CASES % 2), 4: (CASES % 4)}


def features(classes: int = 2, width: int = 12) -> np.ndarray:
    """Features that tell the classes somewhat; cases differ too. Some are constant, some far from 0."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(len(CASES), width)) + rng.normal(size=(16, width))[CASES]
    found += rng.normal(size=(classes, width))[CLASSES[classes]] * 1.5
    found[:, 1] = 0.25
    return (found * 3 + 20).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("pca", [None, 5])
def test_one_layer_answers_as_scikit_learns_pipeline(classes: int, pca: int | None) -> None:
    """With weights of equal cases the same as without any: one image a case."""
    first = np.unique(CASES, return_index=True)[1]
    x, y, cases = features(classes)[first], CLASSES[classes][first], CASES[first]
    found = fit_probe(x, y, cases, classes, Probe(C=[30.0], pca=pca))
    used = np.delete(x, 1, axis=1)
    steps = [StandardScaler()] if pca is None else [StandardScaler(), PCA(pca, whiten=True)]
    width = x.shape[1] if pca is None else pca
    # PCA divides by n - 1, the probe by the weights' sum; its features are divided by the root of their number.
    c = 30.0 / width * (1 if pca is None else 16 / 15)
    theirs = make_pipeline(*steps, LogisticRegression(C=c, tol=1e-10, max_iter=5000))
    expected = theirs.fit(used.astype(float), y).predict_proba(used.astype(float))
    np.testing.assert_allclose(found.probabilities(x), expected, atol=1e-5)


def test_it_is_fitted_on_one_thread_which_is_ten_times_faster_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, threads = LogisticRegression.fit, set[int]()

    def spy(self: Any, *what: Any, **more: Any) -> Any:
        threads.update(pool["num_threads"] for pool in threadpool_info())
        return fit(self, *what, **more)

    monkeypatch.setattr(LogisticRegression, "fit", spy)
    fit_probe(features(), CLASSES[2], CASES, 2, Probe(C=[1.0]))
    assert threads == {1}


def test_copies_of_a_cases_images_change_nothing_where_cases_count_and_something_where_images_do() -> None:
    x, y = features(), CLASSES[2]
    rows = np.concatenate([np.arange(len(CASES)), *[np.flatnonzero(CASES == 5)] * 3])
    for weights, same in (("case", True), ("image", False)):
        settings = Probe(weights=weights, C=[1.0, 100.0])
        one, other = fit_probe(x, y, CASES, 2, settings), fit_probe(x[rows], y[rows], CASES[rows], 2, settings)
        assert np.allclose(one.probabilities(x), other.probabilities(x), atol=1e-4) == same
        if same:
            assert one.scores == pytest.approx(other.scores)


def test_classes_and_cases_weigh_the_same_and_the_sum_is_the_number_of_cases() -> None:
    y = (CASES > 3).astype(int)
    weights = sample_weights(y, CASES, "case")
    assert weights.sum() == pytest.approx(16)
    assert weights[y == 0].sum() == pytest.approx(8)
    assert np.unique(np.bincount(CASES, weights)[4:].round(9)).size == 1
    by_image = sample_weights(y, CASES, "image")
    assert by_image[y == 0].sum() == pytest.approx(8)
    assert np.unique(by_image[y == 1].round(9)).size == 1


def test_neither_the_order_of_the_images_nor_their_scale_counts() -> None:
    x, y = features(4), CLASSES[4]
    order = np.random.default_rng(1).permutation(len(y))
    one, other = fit_probe(x, y, CASES, 4, Probe()), fit_probe(x[order] * 7 - 3, y[order], CASES[order], 4, Probe())
    assert one.C == other.C
    np.testing.assert_allclose(one.probabilities(x), other.probabilities(x * 7 - 3), atol=1e-4)


def test_no_fold_shares_a_case_and_none_is_empty() -> None:
    for seed in range(20):
        found = grouped_folds(CLASSES[4], CASES, 5, seed)
        assert set(found) == set(range(5))
        assert all(len(set(found[rows])) == 1 for rows in (case == CASES for case in range(16)))
    assert any((grouped_folds(CLASSES[4], CASES, 5, 0) != grouped_folds(CLASSES[4], CASES, 5, s)).any() for s in (1, 2))


def test_c_is_chosen_on_cases_that_the_inner_fit_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    regress = probe.regress

    def spy(known: np.ndarray, targets: np.ndarray, *rest: Any) -> Any:
        answer = regress(known, targets, *rest)
        seen.append((len(known), answer.coef_))
        return answer

    monkeypatch.setattr(probe, "regress", spy)
    fit_probe(features(), CLASSES[2], CASES, 2, Probe(C=[1.0, 10.0]))
    found = grouped_folds(CLASSES[2], CASES, 5, 0)
    inner = [int((found != fold).sum()) for fold in range(5)]
    assert [n for n, _ in seen] == [n for n in inner for _ in range(2)] + [len(CASES)]


def test_features_that_name_the_case_alone_score_no_better_than_chance_inside() -> None:
    """Were images of a case on both sides, they would score 1."""
    x = np.eye(16)[CASES].astype(np.float32)
    found = fit_probe(x, CLASSES[2], CASES, 2, Probe())
    assert (found.probabilities(x).argmax(axis=1) == CLASSES[2]).all()
    assert max(found.scores.values()) < 0.7


def test_of_equal_scores_the_stronger_penalty_is_taken() -> None:
    x = (CLASSES[2][:, None] * np.ones(3)).astype(np.float32)  # any C tells all
    found = fit_probe(x, CLASSES[2], CASES, 2, Probe(C=[1000.0, 10.0, 100.0]))
    assert set(found.scores.values()) == {1.0}
    assert found.C == 10.0


@pytest.mark.parametrize("classes", [2, 4])
def test_the_inner_answers_are_those_of_fits_without_the_case(classes: int) -> None:
    x, y = features(classes), CLASSES[classes]
    found = fit_probe(x, y, CASES, classes, Probe(C=[1.0, 30.0], folds=4), seed=3)
    assert found.inner is not None
    folds = grouped_folds(y, CASES, 4, 3)
    for fold in range(4):
        without = fit_probe(x[folds != fold], y[folds != fold], CASES[folds != fold], classes, Probe(C=[found.C]))
        np.testing.assert_allclose(found.inner[folds == fold], without.probabilities(x[folds == fold]), atol=1e-9)
    assert fit_probe(x, y, CASES, classes, Probe(C=[1.0])).inner is None


def test_no_inner_answer_is_about_a_class_that_the_inner_fit_has_not_learnt() -> None:
    """Its probability is e^-30 there: a temperature fitted on it makes all answers of the model alike."""
    y = np.where(CASES == 3, 2, CLASSES[2])
    found = fit_probe(features(), y, CASES, 3, Probe(C=[1.0, 30.0], folds=4))
    assert found.inner is not None
    assert np.isnan(found.inner[y == 2]).all()
    assert np.isfinite(found.inner[y != 2]).all()
    assert np.isfinite(list(found.scores.values())).all()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (CASES < 4, "4 cases in training are fewer than model.probe.folds 5"),
        ((CASES % 2 == 1) | (CASES == 0), "only one class has two cases"),
    ],
)
def test_too_few_cases_take_a_fixed_c_and_say_so(rows: np.ndarray, reason: str) -> None:
    found = fit_probe(features()[rows], CLASSES[2][rows], CASES[rows], 2, Probe())
    assert (found.C, found.scores) == (FALLBACK, {})
    assert reason in found.notes[0]


def test_one_case_is_said_in_the_singular() -> None:
    assert probe.too_few(np.arange(2), np.zeros(2), 5) == "1 case in training is fewer than model.probe.folds 5"


def test_a_class_without_training_images_gets_no_probability() -> None:
    for rows in (CLASSES[4] != 2, CLASSES[4] < 2):
        found = fit_probe(features(4)[rows], CLASSES[4][rows], CASES[rows], 4, Probe(C=[10.0]))
        given = found.probabilities(features(4))
        np.testing.assert_allclose(given.sum(axis=1), 1)
        assert given[:, np.setdiff1d(range(4), CLASSES[4][rows])].max() < 1e-9
        assert (given.argmax(axis=1) == CLASSES[4])[rows].mean() > 0.9


def test_a_probe_that_does_not_converge_is_one_sentence_and_a_c_that_does_not_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ParamsError, match=r"model\.probe\.max_iter.*C 10 did not converge in 1 steps"):
        fit_probe(features(), CLASSES[2], CASES, 2, Probe(C=[10.0], max_iter=1))
    regress = probe.regress
    monkeypatch.setattr(probe, "regress", lambda *given: None if given[3] == 100.0 else regress(*given))
    found = fit_probe(features(), CLASSES[2], CASES, 2, Probe(C=[10.0, 100.0]))
    assert found.C == 10.0
    assert found.notes == ("C 100 is left out: no convergence in 1000 steps",)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"targets": 0 * CASES}, DataError, "one class only"),
        ({"features": features() * np.nan}, DataError, "not finite"),
        ({"settings": Probe(pca=13)}, ParamsError, "at most 12 components"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(change: dict[str, Any], error: type[Exception], words: str) -> None:
    given = {"features": features(), "targets": CLASSES[2], "cases": CASES, "classes": 2, "settings": Probe()} | change
    with pytest.raises(error, match=words):
        fit_probe(**given)


def test_what_was_set_for_a_training_by_steps_is_named_as_without_effect() -> None:
    assert without_effect(Train(epochs=3, batch=4)) == []
    changed = Train(optimizer="adopt", loss=Loss(name="focal"))
    assert without_effect(changed) == ["train.optimizer", "train.loss"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scores", [{100.0: 0.7, 1.0: 0.5, 10.0: 0.6}, {}])
def test_the_picture_shows_the_score_of_each_strength_and_the_kept_one_or_why_none_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: dict[float, float]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plots.plt, "close", drawn.append)
    zero, other = np.zeros(1), 10.0 if scores else 100.0
    probe = FittedProbe(zero, zero[None], zero, 100.0, scores, ("C is 100, not chosen: 4 cases are too few",))
    fitted = FittedLayers(
        zero, zero[None], zero, {Part(("middle",)): probe, Part(("last",), True): replace(probe, C=other)}
    )
    plots.plot_strengths(fitted, "binary-case", tmp_path / "curves.png")
    (axis,) = drawn[0].axes
    assert (tmp_path / "curves.png").stat().st_size > 5000
    lines = [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
    assert [line[1] for line in lines[1::2]] == [[100, 100], [other, other]]
    scored = ([1, 10, 100], [0.5, 0.6, 0.7]) if scores else ([], [])
    assert lines[::2] == [("middle: C = 100", *scored), (f"last, parent task: C = {other:g}", *scored)]
    assert [text.get_text() for text in axis.texts] == ([] if scores else list(probe.notes))
