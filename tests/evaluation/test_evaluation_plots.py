"""The pictures: they exist, they say what they show, and equal inputs give equal bytes."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from biopsy.core.files import write_png
from biopsy.core.text import drawn
from biopsy.evaluation.figures import evaluate_outcome
from biopsy.evaluation.outcome import Outcome, make_outcome
from biopsy.evaluation.plots import NOTICE, About, plot_confusion, plot_curves, plot_magnifications
from biopsy.evaluation.predictions import curve_table, magnification_table
from schemes import BREAKHIS, scheme

pytestmark = pytest.mark.filterwarnings("error")

ABOUT = About(BREAKHIS["multiclass"], "multiclass", "case", 120, 12, synthetic=True)
BINARY = About(BREAKHIS["binary"], "binary", "case", 4, 2, synthetic=True)


def outcome_without_adenosis(classes: list[str] = BREAKHIS["multiclass"].names, n: int = 120) -> Outcome:
    random = np.random.default_rng(3)
    truth = random.integers(1, len(classes), n)
    p = random.random((n, len(classes))) + 2 * np.eye(len(classes))[truth] * random.random((n, 1))
    return make_outcome(truth, p, classes)


def all_figures(outcome: Outcome, about: About = ABOUT) -> dict[str, Figure]:
    n = len(outcome.truth)
    groups, magnification = np.arange(n).astype(str), np.array(["40", "100", "400"] * n)[:n]
    details = evaluate_outcome(outcome, groups, magnification)
    return {
        "confusion": plot_confusion(outcome, about),
        "roc": plot_curves(curve_table(outcome, "roc"), "roc", details, about),
        "pr": plot_curves(curve_table(outcome, "pr"), "pr", details, about),
        "magnification": plot_magnifications(magnification_table(details), details["image_level"]["macro_f1"], about),
    }


def texts(figure: Figure) -> str:
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    inside = [text for axes in figure.axes for text in (*axes.texts, *axes.get_xticklabels())]
    return "\n".join(text.get_text() for text in (figure._suptitle, *figure.texts, *legends, *inside) if text)


def test_every_picture_names_task_protocol_counts_source_and_use() -> None:
    for name, figure in all_figures(outcome_without_adenosis()).items():
        for words in ("multiclass, protocol case", "120 images, 12 cases", "synthetic sample", NOTICE):
            assert words in texts(figure), name


def test_a_picture_of_real_images_does_not_call_them_synthetic() -> None:
    about = About(BREAKHIS["binary"], "binary", "image", 1, None, synthetic=False)
    assert about.title("ROC") == "ROC: binary, protocol image\ntest set: 1 image, cases not known"
    assert "12 cases" in ABOUT.title("ROC")
    assert "1 case," in About(BREAKHIS["binary"], "binary", "case", 5, 1, synthetic=True).title("ROC")


def test_equal_inputs_give_equal_bytes_of_a_true_picture(tmp_path: Path) -> None:
    again = all_figures(outcome_without_adenosis())
    for name, figure in all_figures(outcome_without_adenosis()).items():
        write_png(tmp_path / f"{name}.png", figure)
        write_png(tmp_path / "again.png", again[name])
        assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / "again.png").read_bytes()
        image = cv2.imread(str(tmp_path / f"{name}.png"))
        assert min(image.shape[:2]) > 400
        assert (image < 250).mean() > 0.02


def test_a_type_that_is_not_tested_is_named_and_has_no_curve() -> None:
    figures = all_figures(outcome_without_adenosis())
    assert "not in the test set: A" in texts(figures["confusion"])
    assert "A  not defined" in texts(figures["roc"])
    assert "F  0." in texts(figures["roc"])


def test_the_matrix_shows_counts_and_shares() -> None:
    outcome = make_outcome(np.array([0, 0, 0, 1]), np.array([[1, 0], [1, 0], [0, 1], [0, 1]]), ["benign", "malignant"])
    counts, shares = plot_confusion(outcome, BINARY).axes
    assert [text.get_text() for text in counts.texts] == ["2", "1", "0", "1"]
    assert [text.get_text() for text in shares.texts] == ["0.67", "0.33", "0.00", "1.00"]


def test_the_name_of_an_axis_does_not_touch_the_notice() -> None:
    for name, figure in all_figures(outcome_without_adenosis()).items():
        figure.draw_without_rendering()
        (notice,) = (text.get_window_extent() for text in figure.texts if text.get_text() == NOTICE)
        for axes in figure.axes:
            assert axes.xaxis.label.get_window_extent().y0 > notice.y1 + 3, name


def test_magnifications_carry_their_number_of_images() -> None:
    found = texts(all_figures(outcome_without_adenosis())["magnification"])
    assert "40X\n40 images\n40 cases" in found


def test_a_magnification_of_few_cases_is_pale() -> None:
    table = pd.DataFrame({"magnification": ["40X", "400X"], "macro_f1": [0.7, 1.0], "images": [9, 1], "cases": [5, 1]})
    about = About(BINARY.scheme, "binary", "case", 10, 5, synthetic=False)
    figure = plot_magnifications(table, 0.7, about)
    sure, few = (bar.get_facecolor() for bar in figure.axes[0].patches[:2])
    assert sure != few
    legend = figure.axes[0].get_legend()
    assert legend
    assert "fewer than 5 cases" in [text.get_text() for text in legend.get_texts()]


def test_one_class_alone_is_drawn_without_a_curve(tmp_path: Path) -> None:
    outcome = make_outcome(np.array([1, 1]), np.array([[0.5, 0.5], [0.9, 0.1]]), ["benign", "malignant"])
    for name, figure in all_figures(outcome, BINARY).items():
        write_png(tmp_path / f"{name}.png", figure)
        assert "malignant  not defined" in texts(figure) or name in ("confusion", "magnification")


@pytest.mark.parametrize("number", [2, 9, 30])
def test_pictures_of_two_to_thirty_classes_show_every_class_in_a_colour_of_its_own(number: int, tmp_path: Path) -> None:
    odd = ["$x^$", "_under", "e$\\frac", "two\nlines"]  # shown as they are written
    names = [*odd, *(f"class {i:02d}" for i in range(number))][:number]
    task = scheme(organ={"column": None, "classes": names})["organ"]
    assert len(set(task.colours.values())) == number
    random = np.random.default_rng(0)
    truth, p = np.arange(300) % number, random.random((300, number))
    about = About(task, "organ", "case", 300, 300, synthetic=False)
    for name, figure in all_figures(make_outcome(truth, p, task.names), about).items():
        write_png(tmp_path / f"{name}.png", figure)
        shown = texts(figure)
        assert name == "magnification" or all(drawn(label) in shown for label in task.names[1:])


def test_long_names_are_written_in_lines_and_leave_room_for_the_picture(tmp_path: Path) -> None:
    names = ["invasive carcinoma of no special type " * 4, "Nichtinvasivesduktalkarzinom" * 3, "x"]
    task = scheme(organ={"column": None, "classes": [name.strip() for name in names]})["organ"]
    truth, p = np.arange(60) % 3, np.random.default_rng(0).random((60, 3))
    about = About(task, "organ", "case", 60, 60, synthetic=False)
    for name, figure in all_figures(make_outcome(truth, p, task.names), about).items():
        write_png(tmp_path / f"{name}.png", figure)  # a warning that the axes collapsed would be an error
        canvas = figure.get_window_extent()
        for axes in figure.axes:
            for label in (axes.yaxis.label, *axes.get_yticklabels(), *axes.get_xticklabels()):
                assert label.get_window_extent().x0 >= canvas.x0 - 1, (name, label)
            assert axes.get_window_extent().width > 100, name


def test_a_magnification_with_a_decimal_point_stands_in_its_place_and_the_unknown_last() -> None:
    outcome = outcome_without_adenosis(n=8)
    found = evaluate_outcome(outcome, np.arange(8).astype(str), np.array(["", "40", "7.5", "100"] * 2))
    assert list(magnification_table(found)["magnification"]) == ["7.5X", "40X", "100X", "unknown"]
