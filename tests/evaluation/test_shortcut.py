"""The shortcut: features that know only the slide, and features that know the class, are told apart."""

import numpy as np
import pytest

from biopsy.evaluation.intervals import wilson
from biopsy.evaluation.report.embedding import say_shortcut
from biopsy.evaluation.shortcut import measure_shortcut

CASES, PER_CASE = 24, 6
CASE = np.repeat(np.arange(CASES), PER_CASE)
TYPE = (CASE % 3).astype(str)
EVERY = np.ones(len(CASE), bool)


def spread(seed: int, of_case: float, of_type: float, noise: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    by_case, by_type = rng.normal(size=(CASES, 8)), rng.normal(size=(3, 8))
    return of_case * by_case[CASE] + of_type * by_type[TYPE.astype(int)] + noise * rng.normal(size=(len(CASE), 8))


def test_five_images_by_hand() -> None:
    features = np.array([[0.0], [1], [3], [10], [11.5]])
    types, slides, cases = (np.array(list(text)) for text in ("aabab", "ssttu", "11223"))
    found = measure_shortcut(features, types, slides, cases, np.ones(5, bool))
    # Slides: 0-1 right, 1-0 right, 2's nearest is 1 (s), 3's nearest is 4 (u); 4 has no other image of its slide.
    assert (found["slide"]["right"], found["slide"]["of"]) == (2, 4)
    assert found["slide"]["random"] == 1 / 4
    # Types, elsewhere: 0 and 1 find 2 (b, and they are a); 2 finds 1 (a, is b); 3 finds 4 (b, is a); 4 finds 3 (a).
    assert (found["type_elsewhere"]["right"], found["type_elsewhere"]["of"]) == (0, 5)
    assert found["type_elsewhere"]["random"] == pytest.approx(np.mean([1 / 3, 1 / 3, 1 / 3, 2 / 3, 1 / 4]))
    assert (found["type"]["right"], found["type"]["of"], found["type"]["few"]) == (2, 5, "too few cases")


def test_features_that_know_only_the_slide_tell_the_class_until_its_case_is_left_out() -> None:
    far = []
    for seed in range(20):
        found = measure_shortcut(spread(seed, 5, 0, 0.5), TYPE, CASE.astype(str), CASE.astype(str), EVERY)
        assert (found["slide"]["share"], found["type"]["share"]) == (1, 1)
        far.append(found["type_elsewhere"])
    # A random image of another case has the class of one of 7 others among 23 cases.
    assert {round(one["random"], 6) for one in far} == {round(7 / 23, 6)}
    assert np.mean([one["share"] for one in far]) == pytest.approx(7 / 23, abs=0.05)
    found["type_elsewhere"] |= {"share": 0.3, "low": 0.2, "high": 0.5}
    assert "because of their slide, not of their class" in say_shortcut(found)[-1]


def test_features_that_know_the_class_tell_it_on_new_cases_too() -> None:
    found = measure_shortcut(spread(0, 0, 5, 1), TYPE, CASE.astype(str), CASE.astype(str), EVERY)
    far = found["type_elsewhere"]
    assert (far["share"], far["cases"]) == (1, CASES)
    assert far["low"] == wilson(1.0, CASES).low  # cases are its count, not 144 images
    assert found["slide"]["share"] < 0.3
    assert "beyond the slide" in say_shortcut(found)[-1]


def test_only_the_asked_images_are_asked_and_an_unknown_case_is_no_other_case() -> None:
    features, cases = spread(0, 0, 5, 1), CASE.astype(str)
    asked = CASE < 2
    found = measure_shortcut(features, TYPE, cases, cases, asked)
    assert {one["of"] for one in found.values()} == {12}
    assert "cannot be told: too few cases" in say_shortcut(found)[-1]
    unknown = np.where(CASE > 4, "", cases)
    lost = measure_shortcut(features, TYPE, cases, unknown, EVERY)
    assert lost["type_elsewhere"]["of"] == 4 * PER_CASE  # of five cases left, one has a class of its own
    assert lost["slide"]["few"] == "cases not known"
    alone = measure_shortcut(features, cases, cases, cases, EVERY)
    assert alone["type_elsewhere"]["of"] == 0
    assert "No class has images of two cases" in say_shortcut(alone)[-1]
    nowhere = measure_shortcut(features, TYPE, cases, np.full(len(cases), ""), EVERY)
    assert nowhere["type_elsewhere"]["of"] == 0
    assert "Cases or slides are not known" in say_shortcut(nowhere)[-1]
