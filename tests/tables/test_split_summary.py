"""The check of every split, and what the metrics say of it: leaks, and what cannot be estimated."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import MANY, breakhis, invented

from biopsy.core.errors import DataError
from biopsy.core.sections.data import Split
from biopsy.core.text import id_key
from biopsy.tables.split.fold_table import read_fold_table
from biopsy.tables.split.splits import make_split
from biopsy.tables.split.summary import LeakError, check_split, summarise
from schemes import BREAKHIS, TASKS

SHARES = Split()


def test_the_check_refuses_what_leaks_or_loses_images() -> None:
    good = make_split(MANY, TASKS, "case", SHARES, 0)
    check_split(MANY, good, "case")
    check_split(MANY, make_split(MANY, TASKS, "image", SHARES, 0), "image")
    for bad, words in (
        (good.iloc[1:], "every image into exactly one part"),
        (pd.concat([good, good.iloc[:1]]), "every image into exactly one part"),
        (good.assign(part=good["part"].replace("val", "dev")), "every image into exactly one part"),
        (make_split(MANY, TASKS, "image", SHARES, 0), r"case\(s\) on two sides"),
    ):
        with pytest.raises(LeakError, match=words):
            check_split(MANY, bad, "case")
    with pytest.raises(DataError, match=r"protocol 'fold1' leaves no image for test.*test image of the fold table"):
        check_split(MANY, good.assign(part=good["part"].replace("test", "train")), "fold1")


def test_the_check_refuses_equal_pixels_on_two_sides() -> None:
    table = MANY.copy()
    split = make_split(table, TASKS, "case", SHARES, 0)
    one, other = (split.index[split["part"] == part][0] for part in ("train", "test"))
    ids = table["image_id"].isin(split.loc[[one, other], "image_id"])
    table.loc[ids, "pixels_sha256"] = "same"
    with pytest.raises(LeakError, match="pixels_sha256"):
        check_split(table, split, "case")


@pytest.mark.parametrize("unit", ["slide", "case"])
def test_a_group_in_two_spellings_is_not_split_and_counts_as_a_leak_where_it_is(unit: str) -> None:
    odd = np.arange(len(MANY)) % 2 == 1
    table = MANY.assign(**{unit: MANY[unit].where(~odd, " " + MANY[unit].str.lower())})
    parts = table.merge(make_split(table, TASKS, unit, SHARES, 0), on="image_id")
    assert parts.groupby(parts[unit].map(id_key))["part"].nunique().max() == 1
    by_spelling = MANY[["image_id"]].assign(part=np.where(odd, "train", "test"))
    by_spelling.loc[by_spelling.index[:2], "part"] = "val"
    with pytest.raises(LeakError):
        check_split(table, by_spelling, unit)
    assert summarise(table, by_spelling, "image", BREAKHIS)["test_images_seen"][f"{unit}s"] > 100


def test_the_summary_counts_the_leak_and_names_what_is_not_estimable() -> None:
    table = invented({"A": [10, 10], "TA": [12], "DC": [20, 10, 30, 5, 9]})
    case = summarise(table, make_split(table, TASKS, "case", SHARES, 0), "case", BREAKHIS)
    assert case["says"].startswith("0 of ")
    assert case["not_estimable"] == {
        "A": "adenosis has 2 cases; 3 parts need 3",
        "TA": "tubular adenoma has 1 case; 3 parts need 3",
        "benign": "benign has 3 cases, none in val",
    }
    assert case["classes"]["multiclass"]["A"]["estimable"] is False
    assert case["classes"]["multiclass"]["A"]["val"] == {"images": 0, "slides": 0, "cases": 0}
    assert case["classes"]["multiclass"]["DC"]["estimable"] is True
    image = summarise(table, make_split(table, TASKS, "image", SHARES, 0), "image", BREAKHIS)
    tested = image["parts"]["test"]["images"]
    assert image["says"] == f"{tested} of {tested} test images come from slides seen in training"
    assert image["shared"]["slides"]["train_test"] > 0
    assert image["not_estimable"] == {}


def test_the_summary_says_so_where_slides_and_cases_are_unknown() -> None:
    table = MANY.assign(slide="", case="")
    summary = summarise(table, make_split(table, TASKS, "image", SHARES, 0), "image", BREAKHIS)
    assert "cannot be checked" in summary["says"]
    assert summary["test_images_seen"]["slides"] is None
    assert (summary["parts"]["test"]["slides"], summary["parts"]["test"]["cases"]) == (None, None)
    folds = summarise(table, make_split(table, TASKS, "image-cv3", SHARES, 0), "image-cv3", BREAKHIS)
    assert folds["parts"]["1-1"]["test"]["cases"] is None
    by_case = MANY.assign(slide="")
    assert (
        "come from cases seen"
        in summarise(by_case, make_split(by_case, TASKS, "image", SHARES, 0), "image", BREAKHIS)["says"]
    )


@pytest.mark.parametrize("unit", ["case", "slide"])
def test_the_summary_counts_test_images_of_cases_that_only_validation_has_seen(unit: str) -> None:
    table = MANY.assign(**({} if unit == "case" else {"case": ""}))
    split = make_split(table, TASKS, "case" if unit == "case" else "slide", SHARES, 0)
    said = summarise(table, split, "given", BREAKHIS)["says"]
    assert said.endswith("test images come from slides seen in training")
    moved = split.assign(part=split["part"].where(split["part"] != "val", "test"))
    group = table.merge(moved, on="image_id").query("part == 'test'")[unit].value_counts().index[0]
    rows = np.flatnonzero(table.set_index("image_id").loc[moved["image_id"], unit] == group)
    moved.loc[rows[0], "part"] = "val"
    said = summarise(table, moved, "given", BREAKHIS)["says"]
    assert said.startswith("0 of ")
    assert said.endswith(f", {len(rows) - 1} from {unit}s seen in validation")


# Real data


@pytest.mark.parametrize("csv", ["image_data_subset.csv", "image_data.csv"])
def test_image_level_leaks_slides_on_real_data_and_case_level_does_not(real_data: Path, csv: str) -> None:
    table = breakhis(real_data / csv)
    image, case = (summarise(table, make_split(table, TASKS, p, SHARES, 0), p, BREAKHIS) for p in ("image", "case"))
    assert image["test_images_seen"]["slides"] > 0.99 * image["parts"]["test"]["images"]
    assert case["test_images_seen"] == {"slides": 0, "cases": 0, "pixels": 0}
    assert "A" in case["not_estimable"]
    for summary in (image, case):
        for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert summary["parts"][part]["images"] == pytest.approx(share * len(table), abs=max(2, 0.002 * len(table)))


def test_the_official_fold_shares_cases_and_the_summary_says_so(real_data: Path) -> None:
    """The figures of docs/evaluation.md, and our split's own, which lays some of these cases into validation."""
    table = breakhis(real_data / "image_data.csv")
    official = read_fold_table(real_data / "dsfoldTable.csv").set_index("filename")["split"]
    table["part"] = table["path"].map(lambda path: official[Path(path).name])
    shared = {
        unit: set.intersection(*(set(rows[unit]) for _, rows in table.groupby("part"))) for unit in ("case", "slide")
    }
    assert (len(shared["case"]), shared["slide"]) == (8, {"13412"})
    assert ((table["part"] == "test") & table["case"].isin(shared["case"])).sum() == 1145
    summary = summarise(table.drop(columns="part"), table[["image_id", "part"]], "fold1", BREAKHIS)
    assert summary["says"] == "1145 of 2904 test images come from cases seen in training"
