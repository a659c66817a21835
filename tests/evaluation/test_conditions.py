"""Figures by stain and by the quality of images: a planted failure shows where it is, and few cases get words."""

import numpy as np
import pandas as pd
import pytest

from biopsy.core.job import Job
from biopsy.evaluation.appearance import LOOKS
from biopsy.evaluation.outcome import make_outcome
from biopsy.evaluation.predictions import Answers
from biopsy.evaluation.report.conditions import by_conditions, stain_clusters, thirds
from biopsy.evaluation.report.results import Result
from schemes import scheme


def appearance(n: int = 60) -> pd.DataFrame:
    """Images of three stains in turn, 20 cases of three each; focus grows from image to image."""
    rng, stain = np.random.default_rng(0), np.arange(n) % 3
    table = pd.DataFrame({name: rng.normal(0, 0.01, n) for name in LOOKS})
    table["density"] += 0.6 - 0.2 * stain
    table["red"] += 20 + stain
    table["yellow"] += stain == 1
    table["focus"] = np.arange(n, dtype=float)
    return table.assign(image_id=[f"i{i:02d}" for i in range(n)], part="test")


def result(table: pd.DataFrame | None, wrong: np.ndarray) -> Result:
    """The images in another order than the table's, and one that it does not have."""
    n = len(wrong)
    rows = pd.DataFrame({"image_id": [f"i{i:02d}" for i in range(n)], "case": [f"c{i // 3}" for i in range(n)]})[::-1]
    outcome = make_outcome(np.zeros(n, int), np.eye(2)[wrong.astype(int)[::-1]], ["a", "b"])
    answers = Answers(rows.reset_index(drop=True), outcome, np.ones(n))
    return Result(Job("t", "case"), scheme(t={"column": None, "classes": ["a", "b"]})["t"], {}, {}, {}, answers, table)


def test_a_planted_failure_on_one_stain_and_on_blurred_images_shows() -> None:
    table, number = appearance(), np.arange(61)
    pale = result(table, (number % 3 == 2) & (number < 60))
    rows = dict(by_conditions(pale))["stain"]
    assert [(row["name"][:16], row["right"], row["images"]) for row in rows] == [
        ("1: strength 0.20", 0, 20), ("2: strength 0.40", 20, 20), ("3: strength 0.60", 20, 20), ("not known", 1, 1),
    ]  # fmt: skip
    assert all(row["cases"] == 20 and row["low"] <= row["share"] <= row["high"] for row in rows[:3])
    assert rows[3]["few"] == "too few cases"
    blurred = dict(by_conditions(result(table, number < 10)))["focus"]
    assert (blurred[0]["name"], blurred[0]["right"], blurred[0]["cases"]) == ("low: 0 to 19", 10, 7)
    assert {row["right"] / row["images"] for row in blurred[1:]} == {1}


def test_thirds_keep_equal_values_together_and_leave_unknown_ones_out() -> None:
    assert thirds(pd.Series([1.0, 2, 3, np.nan, 4, 5, 6])).tolist() == [
        "low: 1 to 2", "low: 1 to 2", "middle: 3 to 4", "", "middle: 3 to 4", "high: 5 to 6", "high: 5 to 6",
    ]  # fmt: skip
    assert set(thirds(pd.Series([1.0] * 9))) == {"all: 1 to 1"}
    assert set(thirds(pd.Series([0.5] + [1.0] * 9))) <= {"low: 0.5 to 0.5", "all: 0.5 to 1", "high: 1 to 1"}
    assert set(thirds(pd.Series([np.nan] * 3))) == {""}


def test_without_looks_or_with_few_images_or_one_stain_there_is_nothing_made_up() -> None:
    assert list(by_conditions(result(None, np.zeros(61, bool)))) == []
    assert list(by_conditions(result(appearance(19), np.zeros(61, bool)))) == []
    assert set(stain_clusters(appearance().assign(red=1.0))) == {""}
    assert set(stain_clusters(appearance().assign(red=0.3))) == {""}  # whose deviation is 6e-17, not 0
    bare = appearance()
    bare.loc[:41, "density"] = np.nan
    assert set(stain_clusters(bare)) == {""}


@pytest.mark.filterwarnings("error")
def test_two_kinds_of_equal_images_are_two_groups_without_a_warning() -> None:
    kinds = np.arange(40) % 2
    table = pd.DataFrame({"density": 0.2 + 0.2 * kinds, "red": 1.0 + kinds, "yellow": 3.0 + kinds})
    assert [name[:16] for name in sorted(set(stain_clusters(table)))] == ["1: strength 0.20", "2: strength 0.40"]
