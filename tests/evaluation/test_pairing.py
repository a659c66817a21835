"""Two tables of predictions: paired row by row, or told why they cannot be."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biopsy.core.errors import DataError
from biopsy.evaluation.comparison import Difference
from biopsy.evaluation.outcome import Undefined
from biopsy.evaluation.pairing import pair_tables, pool_pairs, read_predictions
from predictions import predictions

NAMES = ("main", "mine")


def test_the_better_model_is_found_whatever_the_order_of_the_rows() -> None:
    poor, good = predictions(skill=0.0, noise=1), predictions(skill=4.0, noise=2)
    shuffled = good.sample(frac=1, random_state=0)
    found = pair_tables(poor, shuffled, NAMES).differences(["malignant"])
    assert isinstance(found["macro_f1"], Difference)
    assert found["macro_f1"].shown
    assert found["macro_f1"].estimate > 0.2
    assert found == pair_tables(poor, good, NAMES).differences(["malignant"])


def test_repeats_of_a_cross_validation_are_averaged_case_by_case() -> None:
    """Three repeats that answer alike are no more cases than one; each image stands in each of them once."""
    one, other = predictions(skill=0.5, noise=1), predictions(skill=2.0, noise=2)
    threefold = [pd.concat([t.assign(fold=f"{r}-1") for r in (1, 2, 3)], ignore_index=True) for t in (one, other)]
    single, pair = pair_tables(one, other, NAMES), pair_tables(threefold[0], threefold[1], NAMES)
    assert pair.answers[0].shape == (3, len(one), 2)
    alone, repeated = (p.differences(["malignant"])["macro_f1"] for p in (single, pair))
    assert isinstance(alone, Difference)
    assert isinstance(repeated, Difference)
    assert (repeated.estimate, repeated.interval.low) == pytest.approx((alone.estimate, alone.interval.low))


def drop(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["image_id"] >= "i003"]


def relabel(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(truth=["malignant", "malignant", *table["truth"][2:]])


def regroup(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(case=["other", *table["case"][1:]])


def rename(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"p_malignant": "p_cancer"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (drop, "main and mine answered different images: 3 of 48 have one answer."),
        (relabel, "main and mine have another label for 2 of 48 images."),
        (regroup, "main and mine have another case for 1 of 48 images."),
        (rename, "main and mine know different classes: benign, malignant, and benign, cancer."),
    ],
)
def test_runs_on_other_data_are_told_apart_with_a_count(
    change: Callable[[pd.DataFrame], pd.DataFrame], sentence: str
) -> None:
    table = predictions()
    with pytest.raises(DataError) as error:
        pair_tables(table, change(table), NAMES)
    assert str(error.value) == f"{sentence} Run both with the same data, seed and split."


def test_classes_in_another_order_are_the_same_classes() -> None:
    poor, good = predictions(skill=0.5, noise=1), predictions(skill=4.0, noise=2)
    turned = good[[*good.columns[:-2], "p_malignant", "p_benign"]]
    assert pair_tables(poor, turned, NAMES).differences(["malignant"]) == pair_tables(poor, good, NAMES).differences(
        ["malignant"]
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_table_of_folds_and_one_without_are_told_apart(turned: bool) -> None:
    tables = (predictions().assign(fold="1-1"), predictions())
    with pytest.raises(DataError, match=f"^{NAMES[not turned]} has no folds, and {NAMES[turned]} has"):
        pair_tables(tables[turned], tables[not turned], NAMES)


def test_other_folds_of_the_same_images_are_told_apart() -> None:
    table = predictions().assign(fold="1-1")
    with pytest.raises(DataError, match="have another fold for 4 of 48 images"):
        pair_tables(table, table.assign(fold=["1-2"] * 4 + ["1-1"] * 44), NAMES)


def test_images_without_a_case_cannot_be_compared() -> None:
    table = predictions().assign(case="")
    with pytest.raises(DataError, match="48 of 48 images have no case"):
        pair_tables(table, table, NAMES)


def test_one_class_alone_or_no_positive_class_leaves_a_reason_in_the_place_of_a_figure() -> None:
    table = predictions()
    benign = table[table["truth"] == "benign"]
    assert pair_tables(benign, benign, NAMES).differences(["malignant"])["roc_auc"] == Undefined(
        "too few cases: 6 cases are tested, an interval needs 8"
    )
    assert pair_tables(table, table, NAMES).differences([])["sensitivity"] == Undefined(
        "the task names no positive class"
    )


def test_delong_is_of_cases_not_of_images() -> None:
    one, other = predictions(skill=0.5, noise=1), predictions(skill=2.0, noise=2)
    once = pair_tables(one, other, NAMES).areas()
    twice = pair_tables(*(pd.concat([t, t.assign(image_id=t["image_id"] + "b")]) for t in (one, other)), NAMES).areas()
    assert once is not None
    assert twice is not None
    assert twice.p_value == pytest.approx(once.p_value)  # copies of images are no new cases


def test_the_operating_point_is_the_one_that_the_answers_were_given_with() -> None:
    table = predictions()
    moved = table.assign(predicted=np.where(table["p_malignant"] >= 0.7, "malignant", "benign"))
    pair = pair_tables(table, moved, NAMES)
    assert pair.thresholds[0].tolist() == [0.5]
    np.testing.assert_array_equal(table["p_malignant"] >= pair.thresholds[1][0], moved["predicted"] == "malignant")


def test_seeds_keep_their_own_operating_points_and_must_be_of_the_same_images() -> None:
    table = predictions()
    moved = table.assign(predicted=np.where(table["p_malignant"] >= 0.7, "malignant", "benign"))
    pairs = [pair_tables(one, one, NAMES) for one in (table, moved)]
    pooled = pool_pairs(pairs, "binary-case")
    assert pooled.answers[0].shape == (2, len(table), 2)
    np.testing.assert_array_equal(pooled.thresholds[0], [pair.thresholds[0][0] for pair in pairs])
    alone = [pair.differences(["malignant"])["macro_f1"] for pair in pairs]
    mean = pooled.differences(["malignant"])["macro_f1"]
    assert not isinstance(mean, Undefined)
    assert mean.first == pytest.approx(np.mean([one.first for one in alone if not isinstance(one, Undefined)]))
    with pytest.raises(DataError, match="binary-case: the seeds were tested on different images"):
        pool_pairs([pairs[0], pair_tables(table[:40], table[:40], NAMES)], "binary-case")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "image_id,slide,case,truth,predicted,p_a\n1,s,c,b,a,0.5\n", "\0"])
def test_what_is_no_table_of_predictions_is_a_sentence(text: str) -> None:
    with pytest.raises(DataError, match=r"x\.csv is not a table of predictions \(.+\)\. Make it again"):
        read_predictions(StringIO(text), "x.csv")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fold": "first"}, "'first' is not a fold"),
        ({"fold": ["1-1"] * 40 + ["2-1"] * 8}, "its repeats are of different images"),
        ({"image_id": "i000"}, "an image has two rows"),
        ({"p_benign": -3.0, "p_malignant": 4.0}, "do not add up to 1"),
        ({"p_benign": 0.0, "p_malignant": 0.5}, "do not add up to 1"),
        ({"predicted": ""}, "an image is predicted to be of no class"),
        ({"predicted": ["benign", "malignant"] * 24}, "its predictions do not follow from its probabilities"),
    ],
)
def test_a_table_that_evaluate_cannot_have_written_gives_no_figures(changed: dict[str, Any], words: str) -> None:
    text = predictions().assign(**changed).to_csv(index=False)
    with pytest.raises(DataError, match=f"x.csv is not a table of predictions .*{words}"):
        read_predictions(StringIO(text), "x.csv")


def test_names_of_digits_keep_their_zeros() -> None:
    text = predictions().assign(case="007").to_csv(index=False)
    assert set(read_predictions(StringIO(text), "x.csv")["case"]) == {"007"}
