"""Probable label errors: by known answers, and planted ones are found."""

import numpy as np
import pytest

from biopsy.evaluation.label_errors import LabelError, find_label_errors
from biopsy.evaluation.outcome import make_outcome


def test_five_images_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.75, 0.25]])
    truth = np.array([0, 0, 0, 1, 1])
    # Mean of class a on its images: 0.6; of b on its own: 0.475. So row 2 counts as b and row 4 as a.
    found = find_label_errors(make_outcome(truth, p, ["a", "b"]))
    assert [(error.row, error.label, error.seems) for error in found] == [(2, "a", "b"), (4, "b", "a")]
    assert [error.margin for error in found] == pytest.approx([0.8, 0.5])


def test_an_image_that_is_not_surer_than_the_class_usually_is_or_is_called_right_is_not_named() -> None:
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.1, 0.9], [0.45, 0.55]])
    # Row 3 is called b, but b has 0.9 on its own image; and 0.45 does not reach a's mean either.
    assert find_label_errors(make_outcome(np.array([0, 0, 1, 0]), p, ["a", "b"])) == []
    weak = np.array([[0.6, 0.4], [0.6, 0.4], [0.55, 0.45], [0.55, 0.45]])
    # b's mean is 0.45, which rows 2 and 3 reach; a's mean is 0.6, and nothing labelled b reaches it.
    assert find_label_errors(make_outcome(np.array([0, 0, 1, 1]), weak, ["a", "b"])) == []


@pytest.mark.parametrize("classes", [2, 8])
def test_planted_errors_are_found_and_hardly_anything_else(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = np.arange(400) % classes
    logits = rng.normal(0, 1, (400, classes))
    logits[np.arange(400), truth] += 8
    planted = rng.choice(400, 20, replace=False)
    labels = truth.copy()
    labels[planted] = (truth[planted] + 1) % classes
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = find_label_errors(make_outcome(labels, p, [f"k{i}" for i in range(classes)]))
    named = {error.row for error in found}
    assert len(named & set(planted)) >= 16
    assert len(named - set(planted)) <= 2
    assert all(error.seems == f"k{truth[error.row]}" for error in found)
    assert [e.margin for e in found] == sorted((e.margin for e in found), reverse=True)


def test_a_class_without_a_label_is_never_what_an_image_seems() -> None:
    p = np.array([[0.2, 0.1, 0.7], [0.9, 0.1, 0.0], [0.1, 0.8, 0.1]])
    assert find_label_errors(make_outcome(np.array([0, 0, 1]), p, ["a", "b", "c"])) == []
    assert find_label_errors(make_outcome(np.array([0]), p[:1], ["a", "b", "c"])) == []
    assert LabelError(0, "a", "b", 0.5).margin == 0.5
