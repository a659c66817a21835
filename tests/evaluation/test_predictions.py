"""From images to answers, and from answers to tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from biopsy.evaluation.figures import evaluate_outcome
from biopsy.evaluation.outcome import Outcome, make_outcome
from biopsy.evaluation.predictions import (
    POINTS,
    confusion_table,
    curve_table,
    magnification_table,
    magnifications,
    predict,
    prediction_table,
)

TWO = ["benign", "malignant"]


def brightness(pixels: np.ndarray) -> np.ndarray:
    """A model: the share of white."""
    assert pixels.dtype == np.float32
    return pixels.mean((1, 2))[:, :1] / 255


def test_images_are_read_and_asked_about_in_batches_and_in_order() -> None:
    batches = []

    def read(files: list[Path]) -> np.ndarray:
        batches.append(len(files))
        return np.stack([np.full((4, 4, 3), int(file.stem), np.uint8) for file in files])

    found = predict(brightness, [Path(f"{i}.png") for i in range(7)], read, batch=3)
    assert batches == [3, 3, 1]
    assert found.shape == (7, 2)
    assert found.dtype == np.float32
    assert found[:, 1] * 255 == pytest.approx(range(7))
    assert found.sum(1) == pytest.approx(1)


def test_several_outputs_are_passed_on_as_they_are() -> None:
    answers = np.array([[0.2, 0.3, 0.5]], np.float32)
    found = predict(lambda pixels: answers, [Path("a")], lambda files: np.zeros((1, 2, 2, 3), np.uint8))
    assert np.array_equal(found, answers)


def test_no_image_gives_no_answer() -> None:
    assert predict(brightness, [], lambda files: np.zeros((0, 2, 2, 3), np.uint8)).shape == (0, 2)


def rows(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "slide": "22549AB",
            "case": "022549",
            "magnification": [40.0, np.nan, "", 100, "200"][:n],
        }
    )


def outcome_of(n: int, seed: int = 0) -> Outcome:
    random = np.random.default_rng(seed)
    p = random.random(n)
    return make_outcome((p + random.normal(0, 0.4, n) > 0.5).astype(int), np.stack([1 - p, p], 1), TWO)


def test_magnifications_are_plain_numbers_or_nothing() -> None:
    assert magnifications(rows(5)).tolist() == ["40", "", "", "100", "200"]


def test_the_predictions_say_truth_choice_and_every_probability() -> None:
    outcome = make_outcome(np.array([0, 1]), np.array([[0.1, 0.9], [0.25, 0.75]]), TWO)
    table = prediction_table(rows(2), outcome)
    assert table.to_csv(index=False).splitlines() == [
        "image_id,slide,case,magnification,truth,predicted,p_benign,p_malignant",
        "i0,22549AB,022549,40,benign,malignant,0.1,0.9",
        "i1,22549AB,022549,,malignant,malignant,0.25,0.75",
    ]


def test_the_confusion_table_counts_to_scikit_learns_matrix() -> None:
    outcome = outcome_of(50)
    table = confusion_table(outcome)
    found = pd.crosstab(table["actual"], table["predicted"])
    assert np.array_equal(found.loc[TWO, TWO], metrics.confusion_matrix(outcome.truth, outcome.predicted))


@pytest.mark.parametrize("kind", ["roc", "pr"])
@pytest.mark.parametrize("n", [10, 20_000])
def test_a_curve_keeps_its_ends_and_its_area_in_two_hundred_points(kind: str, n: int) -> None:
    outcome = outcome_of(n)
    table = curve_table(outcome, kind)
    assert set(table["class"]) == {"malignant"}
    assert len(table) <= POINTS
    x, y = table.iloc[:, 1].to_numpy(), table.iloc[:, 2].to_numpy()
    assert (x[0], x[-1]) == (0, 1)
    assert (np.diff(x) >= 0).all()
    score = metrics.roc_auc_score if kind == "roc" else metrics.average_precision_score
    if n > POINTS:
        assert metrics.auc(x, y) == pytest.approx(score(outcome.truth, outcome.probabilities[:, 1]), abs=0.003)
    elif kind == "roc":
        assert metrics.auc(x, y) == pytest.approx(score(outcome.truth, outcome.probabilities[:, 1]), abs=1e-5)


def test_each_tested_type_has_its_curve_and_an_untested_one_has_none() -> None:
    random = np.random.default_rng(0)
    outcome = make_outcome(
        random.integers(1, 8, 90), random.random((90, 8)), ["A", "F", "PT", "TA", "DC", "LC", "MC", "PC"]
    )
    table = curve_table(outcome, "pr")
    assert list(table["class"].unique()) == ["F", "PT", "TA", "DC", "LC", "MC", "PC"]
    assert list(table.columns) == ["class", "recall", "precision"]


@pytest.mark.filterwarnings("error")
def test_one_class_alone_leaves_a_table_of_no_rows_with_its_header() -> None:
    outcome = make_outcome(np.array([1, 1]), np.array([[0.5, 0.5], [0.2, 0.8]]), TWO)
    assert curve_table(outcome, "roc").to_csv(index=False) == "class,fpr,tpr\n"


def test_the_magnification_table_names_magnifications_as_pathologists_do() -> None:
    outcome = outcome_of(6)
    groups, values = np.array(list("112233")), np.array(["40", "40", "", "", "400", "400"])
    table = magnification_table(evaluate_outcome(outcome, groups, values))
    assert table["magnification"].tolist() == ["40X", "400X", "unknown"]
    assert table["images"].tolist() == [2, 2, 2]
    assert table["cases"].tolist() == [1, 1, 1]
