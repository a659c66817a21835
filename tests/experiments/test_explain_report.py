"""`biopsy report --explain`: which images are explained, by which model, and how large the page becomes."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from accessible import violations
from biopsy.core.errors import SourceError
from biopsy.evaluation.outcome import make_outcome
from biopsy.evaluation.predictions import Answers
from biopsy.evaluation.report.page import render
from biopsy.evaluation.report.results import read_run
from biopsy.experiments.explain_report import chosen_rows, explain_run
from biopsy.images.preparation.record import Preparation
from biopsy.serving.model import Model
from report_project import HASH, write_project
from tiny_onnx import DARK, write_onnx


def test_of_each_class_the_surest_error_and_the_median_right_answer_are_chosen_where_there_are_any() -> None:
    own = np.array([0.9, 0.3, 0.4, 0.8, 0.6, 0.1, 0.2])  # the probability of the truth; below 0.5 it is an error
    truth = np.array([0, 0, 0, 0, 0, 1, 1])
    given, places = np.zeros((7, 3)), np.arange(7)
    given[places, truth], given[places, (truth + 1) % 3] = own, 1 - own
    rows = pd.DataFrame({"image_id": list("gfedcba")})
    found = list(chosen_rows(Answers(rows, make_outcome(truth, given, list("xyz")), np.ones(7))))
    assert found == [(1, "worst error"), (3, "typical"), (5, "worst error")]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    changed = {"preparation": Preparation(max_pixels=100_000, resize=DARK.preparation.resize), "model_sha256": HASH}
    return Model(write_onnx(tmp_path / "dark.onnx", DARK.model_copy(update=changed)))


def test_each_picture_has_a_map_beside_it_and_what_cannot_be_explained_is_a_sentence(
    model: Model, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    params = write_project(tmp_path, ["benign", "malignant"], ["case", "image"], leak=0)
    run, asked = read_run(params, tmp_path), list[Path]()
    html = explain_run(run, lambda folder: asked.append(folder) or model)
    assert asked == [tmp_path / "models/tissue-case"]  # once, of the one result that says most
    kinds = re.findall("<strong>(worst error|typical)</strong> of (benign|malignant)", html)
    assert kinds == [(kind, name) for name in ("benign", "malignant") for kind in ("worst error", "typical")]
    assert html.count('<img src="data:image/jpeg;base64,') == html.count(' alt="') == 8
    assert len(html) < 200_000
    place = '<div id="explained">'
    (tmp_path / "whole.html").write_text(render(run).replace(place, place + html))
    page, errors = phone
    page.goto(f"file://{tmp_path / 'whole.html'}")
    assert page.get_by_alt_text(re.compile("^typical of")).count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == errors == []
    (tmp_path / "data/raw/images").rename(tmp_path / "away")
    assert "problem" in explain_run(run, lambda folder: model)
    other = replace(run, results=[replace(r, details={**r.details, "models": []}) for r in run.results])
    assert "is not the model of this report" in explain_run(other, lambda folder: model)


def test_a_missing_model_is_a_sentence(tmp_path: Path) -> None:
    def missing(folder: Path) -> Model:
        raise SourceError(f"{folder} is missing.")

    params = write_project(tmp_path, ["benign", "malignant"], ["case-cv3"])
    shutil.rmtree(tmp_path / "data/raw/images")
    html = explain_run(read_run(params, tmp_path), missing)
    assert len(re.findall(r'<p class="problem">\S*models/tissue-case-cv3/1-\d is missing.', html)) >= 1


def test_of_many_classes_the_page_says_how_many_images_it_leaves_out(model: Model, tmp_path: Path) -> None:
    params = write_project(tmp_path, [f"k{i}" for i in range(14)], ["case"], cases=28)
    shutil.rmtree(tmp_path / "data/raw/images")
    html = explain_run(read_run(params, tmp_path), lambda folder: model)
    (shown,) = re.findall(r"Shown are 24 of (\d+) images", html)
    assert int(shown) > 24
