"""Prediction sets in the report and in the card: what they promise, what they did, or why there are none."""

from pathlib import Path

from biopsy.core.files import read_json
from biopsy.evaluation.report.card import model_cards
from biopsy.evaluation.report.page import render
from biopsy.evaluation.report.results import read_run
from biopsy.evaluation.report.sets import prediction_sets
from biopsy.evaluation.report.words import cut
from report_project import write_project


def test_the_report_and_the_card_say_what_sets_promise_and_why_there_are_none(tmp_path: Path) -> None:
    run = read_run(write_project(tmp_path, ["a", "b"], ["case"]), tmp_path)
    at = read_json(tmp_path / "metrics/tissue-case/details.json", {})["sets"]["levels"]["0.9"]
    page, card = render(run), model_cards(run)["tissue-case"]
    for text in (page, card):
        assert f"{at['covered']} of 12 = {at['coverage']:.2f}" in text
        assert f"{1 - at['threshold']:.3f}" in text
        assert "a set for 95 % needs 19 cases, and there are 12" in text
    assert "threshold from 12 cases of validation" in page


def test_a_threshold_is_never_rounded_to_none_or_to_all() -> None:
    assert [cut(x) for x in (0.25, 0.0004, 0.99996, 0.0, 1.0)] == ["0.250", "0.0004", "0.99996", "0", "1"]
    level = {"threshold": 0.999996, "coverage": None}
    (said,) = prediction_sets({"sets": {"levels": {"0.9": level}, "from": "validation", "cases": 12}})["says"]
    assert "a probability of 0.000004 or more" in said
