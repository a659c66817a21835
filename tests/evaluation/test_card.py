"""The card of a model: a head that Hugging Face can read, and every figure of the run with its interval."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from biopsy.core.files import write_json
from biopsy.evaluation.report.card import model_cards
from biopsy.evaluation.report.results import read_run
from report_project import write_project

ODD = "a|b: <i>c</i> &lt; *d* _e_f_ `g`\n$h$ [i](http://j) ~~k~~ \\"
SHOWN = r"a\|b: &lt;i>c&lt;/i> &amp;lt; \*d\* \_e_f\_ \`g\` \$h\$ \[i\](http://j) \~\~k\~\~ \\"


def parse(text: str) -> tuple[dict[str, Any], str]:
    _, head, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(head), body


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.parametrize(("source", "warned"), [("local", True), ("wsi", False)])
def test_whole_slides_are_no_use_unless_the_model_is_of_their_tiles(tmp_path: Path, source: str, warned: bool) -> None:
    params = write_project(tmp_path, ["benign", "malignant"], ["case"])
    params = params.model_copy(update={"data": params.data.model_copy(update={"source": source})})
    card = model_cards(read_run(params, tmp_path))["tissue-case"]
    assert "Not for: any decision on a patient, images of other organs or stains," in card
    assert ("stains, whole slides, or" in card) is warned


@pytest.mark.parametrize("temperature", [1.0, 1.3])
def test_calibration_has_a_second_row_where_a_temperature_changes_something(tmp_path: Path, temperature: float) -> None:
    run = read_run(write_project(tmp_path, ["benign", "malignant"], ["case"]), tmp_path)
    (result,) = run.results
    same = np.full(len(result.test.rows), temperature)
    run = replace(run, results=[replace(result, test=replace(result.test, temperatures=same))])
    body = model_cards(run)["tissue-case"]
    assert "| as trained |" in body
    assert ("| with temperature |" in body) == (temperature != 1)


def test_the_head_names_licence_tags_and_the_figures_of_the_run(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["benign", ODD], ["case"])
    head, body = parse(model_cards(read_run(params, tmp_path))["tissue-case"])
    details = read(tmp_path / "metrics/tissue-case/details.json")
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("other", "keras", "image-classification")
    assert "research-use-only" in head["tags"]
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["split"], result["dataset"]["name"]) == ("tissue-case", "test", "a source")
    assert {"type", "name"} <= set(result["task"]) & set(result["dataset"])
    values = {metric["name"].split(",")[0]: metric for metric in result["metrics"]}
    low, high = details["intervals"]["macro_f1"]
    assert values["macro-F1 of images"] == {
        "type": "f1",
        "name": f"macro-F1 of images, 95 % interval {low:.3f} to {high:.3f}",
        "value": details["image_level"]["macro_f1"],
    }
    assert values["sensitivity of cases"]["value"] == details["case_level"]["sensitivity"]
    assert set(head["metrics"]) == {metric["type"] for metric in result["metrics"]}
    test = details["abstention"]["image"]["rule"]["test"]
    for fact in (
        "Research use only", "| train | 40 | 10 | 10 |", "models/tissue-case", "0" * 64,
        rf"| {SHOWN} | {SHOWN} | yes |",
        "another laboratory",
        f"| images | macro-F1 | {details['image_level']['macro_f1']:.3f} | 95 % interval {low:.3f} to {high:.3f} |",
        f"| with temperature | {details['calibration']['after']['ece']:.3f} |",
        f"answers {test['answered']} of {test['of']} test images",
        f"positive from {details['operating_point']['case']['threshold']:.3f} on",
    ):  # fmt: skip
        assert fact in body, fact
    assert ODD in result["task"]["name"]
    assert "Synthetic" not in body
    assert "\n\n\n" not in body
    for table in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):  # GitHub and Hugging Face draw it if columns agree
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


@pytest.mark.parametrize(
    ("classes", "protocol", "cases", "positives"), [(2, "case", 1, 0), (3, "case-cv3x2", 12, 1), (30, "image", 30, 2)]
)
def test_it_is_written_for_any_classes_folds_and_few_cases(
    classes: int, protocol: str, cases: int, positives: int, tmp_path: Path
) -> None:
    params = write_project(tmp_path, [f"k{i}" for i in range(classes)], [protocol], cases, 3, positives)
    path = tmp_path / f"metrics/tissue-{protocol}/details.json"
    write_json(path, {**read(path), "synthetic": True})
    head, body = parse(model_cards(read_run(params, tmp_path))[f"tissue-{protocol}"])
    named = [metric["name"] for metric in head["model-index"][0]["results"][0]["metrics"]]
    assert any("sensitivity" in name for name in named) == (positives > 0)
    assert "no interval: too few cases" in body
    assert (head["license"], "synthetic" in head["tags"]) == ("apache-2.0", True)
    assert "Synthetic sample" in body
    assert "too high for new patients" in body
    assert "No honest protocol" not in body  # which another model of the task may well have
    assert ("models/tissue-case-cv3x2/1-1" in body) == ("cv" in protocol)


def test_a_half_finished_run_has_cards_of_what_is_tested_and_says_what_is_missing(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["a", "b"], ["case", "image"])
    (tmp_path / "metrics/tissue-image/test.json").unlink()
    (tmp_path / "metrics/split.json").unlink()
    cards = model_cards(read_run(params, tmp_path))
    assert list(cards) == ["tissue-case"]
    assert "sizes of the parts are not known" in cards["tissue-case"]


def test_the_folder_of_the_user_s_weights_is_not_published(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["benign", "malignant"], ["case"])
    model = params.model.model_copy(update={"weights": "/home/ann/secret/own.weights.h5"})
    card = model_cards(read_run(params.model_copy(update={"model": model}), tmp_path))["tissue-case"]
    assert "weights `own.weights.h5`" in card
    assert "ann" not in re.findall(r"\w+", card)
    assert model.model_copy(update={"weights": "imagenet"}).weights_name == "imagenet"
