"""What folds promise, as properties."""

import numpy as np
import pandas as pd
import pytest
from label_tables import MANY, breakhis, invented
from sklearn.model_selection import StratifiedGroupKFold

from biopsy.core.errors import DataError
from biopsy.core.protocol import parse_protocol
from biopsy.core.sections.data import Split
from biopsy.tables.split.folds import assign_folds, column_of, parts_of
from biopsy.tables.split.splits import make_split
from biopsy.tables.split.summary import LeakError, check_split, summarise
from schemes import BREAKHIS, TASKS

PROTOCOLS = ("image-cv4", "slide-cv3", "case-cv4x3")


def folds_of(table: pd.DataFrame, protocol: str, seed: int = 0) -> pd.DataFrame:
    return make_split(table, TASKS, protocol, Split(), seed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", [0, 5])
def test_each_image_is_tested_and_validates_once_a_repeat_and_no_group_is_on_two_sides(
    protocol: str, seed: int
) -> None:
    found, table = parse_protocol(protocol), folds_of(MANY, protocol, seed)
    assert list(table.columns) == ["image_id", *(column_of(r) for r in range(1, found.repeats + 1))]
    check_split(MANY, table, protocol)
    for repeat in range(1, found.repeats + 1):
        parts = [parts_of(table, fold) for fold in found.folds if fold.repeat == repeat]
        for part in ("test", "val"):
            ids = [image_id for rows in parts for image_id in rows.loc[rows["part"] == part, "image_id"]]
            assert sorted(ids) == sorted(MANY["image_id"])
        for rows in parts:
            assert set(rows["part"]) == {"train", "val", "test"}
            sides = MANY.merge(rows, on="image_id")
            if found.unit != "image":
                assert sides.groupby(found.unit)["part"].nunique().max() == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_neither_the_order_of_rows_nor_names_change_the_folds(protocol: str) -> None:
    renamed = MANY.assign(
        multiclass=MANY["multiclass"].map({"A": "PC", "F": "DC", "DC": "TA", "LC": "F"}),
        slide="z" + MANY["slide"].str[::-1],
        case=MANY["case"].str[::-1] + "x",
        binary=MANY["binary"].map({"benign": "malignant", "malignant": "benign"}),
    ).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(folds_of(MANY, protocol), folds_of(renamed, protocol))


def test_repeats_differ_and_the_first_holds_the_folds_of_one_alone() -> None:
    thrice = folds_of(MANY, "case-cv4x3")
    assert not thrice["repeat_1"].equals(thrice["repeat_2"])
    pd.testing.assert_frame_equal(thrice[["image_id", "repeat_1"]], folds_of(MANY, "case-cv4"))
    alone = make_split(MANY, TASKS, "case-2of4", Split(), 0)
    pd.testing.assert_frame_equal(alone[["image_id", "part"]], parts_of(thrice, parse_protocol("case-cv4x3").folds[1]))


@pytest.mark.parametrize("seed", range(20))
def test_seven_patients_fill_five_folds(seed: int) -> None:
    for sizes in ({"A": [9, 4, 2], "DC": [30, 5, 5, 1]}, {"DC": [9, 8, 7, 6, 5, 4, 3]}, {"A": [1], "DC": [50] * 6}):
        table = invented(sizes)
        folds = folds_of(table, "case-cv5", seed)
        assert set(folds["repeat_1"]) == {1, 2, 3, 4, 5}
        for name in ("case-cv5", *(f"case-{i}of5" for i in range(1, 6))):
            check_split(table, folds_of(table, name, seed), name)


@pytest.mark.parametrize("seed", range(10))
def test_a_class_is_spread_over_as_many_folds_as_it_has_groups_and_evenly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {name: rng.integers(2, 30, n).tolist() for name, n in (("A", 2), ("F", 5), ("DC", 13), ("LC", 4))}
    table = invented(sizes).merge(folds_of(invented(sizes), "case-cv5", seed), on="image_id")
    for name, of_class in table.groupby("multiclass"):
        groups = of_class.groupby("repeat_1")["case"].nunique().reindex(range(1, 6), fill_value=0)
        assert groups.max() <= -(-len(sizes[name]) // 5)
        assert (groups > 0).sum() == min(5, len(sizes[name]))


def test_a_group_of_two_classes_counts_as_that_of_most_of_its_images() -> None:
    counts = np.array([[3, 2], [0, 4], [0, 4], [5, 0], [4, 1], [0, 3]], float)
    counts = np.hstack([counts, counts.sum(axis=1, keepdims=True)])  # both are of one coarser class
    for seed in range(10):
        folds = assign_folds(counts, 2, 3, seed)
        assert sorted(folds[[0, 3, 4]]) == sorted(folds[[1, 2, 5]]) == [0, 1, 2]


def test_one_image_each_gives_folds_of_equal_size_for_each_class() -> None:
    table = MANY.merge(folds_of(MANY, "image-cv4"), on="image_id")
    for _, of_class in table.groupby("multiclass"):
        assert np.ptp(of_class["repeat_1"].value_counts()) <= 1


def test_every_fold_is_checked_for_leaks() -> None:
    bad = folds_of(MANY, "case-cv4x3")
    moved = bad["image_id"] == "DC0-0003"
    bad.loc[moved, "repeat_3"] = bad.loc[moved, "repeat_3"] % 4 + 1
    with pytest.raises(LeakError, match=r"'case-cv4x3' put .* on two sides"):
        check_split(MANY, bad, "case-cv4x3")
    with pytest.raises(DataError, match="must number the folds"):
        check_split(MANY, folds_of(MANY, "case-cv4").replace({"repeat_1": {2: 3}}), "case-cv4")


def test_the_summary_names_a_class_that_one_fold_holds_alone_and_the_parts_of_each_fold() -> None:
    table = invented({"A": [9], "DC": [9, 8, 7, 6]})
    entry = summarise(table, folds_of(table, "case-cv3x2"), "case-cv3x2", BREAKHIS)
    assert entry["says"].startswith("0 of 39 test images come from ")
    assert list(entry["parts"]) == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3"]
    assert sum(parts["test"]["images"] for parts in entry["parts"].values()) == 2 * 39
    assert list(entry["not_estimable"]) == ["benign", "A"]
    assert entry["classes"]["multiclass"]["DC"] == {
        "estimable": True,
        "images": 30,
        "slides": 4,
        "cases": 4,
        "folds": 3,
    }
    leaky = summarise(table, folds_of(table, "image-cv3"), "image-cv3", BREAKHIS)
    assert leaky["says"].startswith("39 of 39 test images")


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_real_cases_are_balanced_better_than_by_scikit_learn(real_data) -> None:
    """By how far the images of benign and malignant cases in a fold are from an even share, over ten seeds."""
    table = breakhis(real_data / "image_data_subset.csv")
    codes = pd.factorize(table["multiclass"])[0]

    def uneven(folds: np.ndarray) -> float:
        counts = pd.crosstab(folds, table["binary"]).to_numpy()
        return float(np.abs(counts / counts.sum(axis=0) - 0.2).mean())

    ours, theirs = [], []
    for seed in range(10):
        ours.append(uneven(folds_of(table, "case-cv5", seed)["repeat_1"].to_numpy() - 1))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        folds = np.zeros(len(table), int)
        for i, (_, test) in enumerate(splitter.split(codes, codes, table["case"])):
            folds[test] = i
        theirs.append(uneven(folds))
    assert np.mean(ours) < 0.8 * np.mean(theirs)
