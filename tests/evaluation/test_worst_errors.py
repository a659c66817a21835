"""The worst errors: which they are, and their sheet."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biopsy.core.files import write_png
from biopsy.core.sections.data import Resize, Tiles
from biopsy.evaluation.errors import find_errors, plot_errors, whole_picture
from biopsy.evaluation.outcome import Outcome, make_outcome
from biopsy.evaluation.plots import NOTICE, About
from schemes import BREAKHIS

ABOUT = About(BREAKHIS["binary"], "binary", "case", 40, 12, synthetic=False)


def table(n: int) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"i{n - i:02d}" for i in range(n)], "slide": ["", *["s$1$"] * (n - 1)]})


def called(malignant: list[float], truth: list[int]) -> Outcome:
    p = np.array(malignant)
    return make_outcome(np.array(truth), np.stack([1 - p, p], 1), ["benign", "malignant"])


def test_the_surest_wrong_answers_come_first_right_ones_never_and_ties_by_name() -> None:
    outcome = called([0.7, 0.99, 0.2, 0.05, 0.7], [0, 1, 1, 1, 0])
    found = find_errors(outcome, table(5))
    assert [(error.image_id, round(error.p_predicted, 6)) for error in found] == [
        ("i02", 0.95), ("i03", 0.8), ("i01", 0.7), ("i05", 0.7),
    ]  # fmt: skip
    first = found[0]
    assert (first.row, first.truth, first.predicted, first.p_truth, first.slide) == (
        3,
        "malignant",
        "benign",
        0.05,
        "s$1$",
    )
    assert found[-1].slide == "not known"


def test_of_several_types_the_answer_counts_and_not_how_little_the_truth_got() -> None:
    p = np.array([[0.5, 0.49, 0.01], [0.6, 0.3, 0.1]])
    found = find_errors(make_outcome(np.array([2, 1]), p, list("abc")), table(2))
    assert [error.row for error in found] == [1, 0]


def test_tiles_are_shown_as_they_lie_in_the_image_and_large_ones_are_made_small() -> None:
    views = np.arange(6, dtype=np.uint8).repeat(4 * 4 * 3).reshape(6, 4, 4, 3)
    whole = whole_picture(views, Resize(mode="tiles", tiles=Tiles(rows=2, columns=3)))
    assert whole[::4, ::4, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    many = Resize(mode="tiles", tiles=Tiles(rows=4, columns=6))
    assert whole_picture(np.zeros((24, 500, 500, 3), np.uint8), many).shape == (213, 320, 3)
    assert whole_picture(views[:1], Resize()).shape == (4, 4, 3)


def test_the_sheet_says_of_each_error_what_it_is_and_stays_small(tmp_path: Path) -> None:
    outcome = called([0.9] * 20, [0] * 20)
    errors = find_errors(outcome, table(20))
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    figure = plot_errors(errors, [noise] * 12, 20, ABOUT)
    said = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(said) == 12
    assert said[0] == "true benign (0.10)\npredicted malignant (0.90)\nslide s$1$"
    assert "The 12 most confident of 20 errors" in str(figure.get_suptitle())
    assert NOTICE in [text.get_text() for text in figure.texts]
    write_png(tmp_path / "errors.png", figure)
    assert (tmp_path / "errors.png").stat().st_size < 2_500_000
    square = cv2.imread(str(tmp_path / "errors.png")).shape
    assert max(square) <= 1300
    write_png(tmp_path / "wide.png", plot_errors(errors, [noise[:210]] * 12, 20, ABOUT))
    wide = cv2.imread(str(tmp_path / "wide.png")).shape
    assert wide[0] < 0.8 * square[0]  # no empty bands between rows of wide pictures


def test_without_an_error_the_sheet_is_a_sentence(tmp_path: Path) -> None:
    figure = plot_errors(find_errors(called([0.9], [1]), table(1)), [], 0, ABOUT)
    assert any("None: every test image was classified correctly." in text.get_text() for text in figure.texts)
    write_png(tmp_path / "errors.png", figure)
