from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biopsy.core.files import write_png
from biopsy.tables.ingest_plots import plot_brightness, plot_classes, plot_sizes, save_plots
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.split.plots import plot_split
from schemes import BREAKHIS, params, scheme

NOTE = "5 images of 3 slides. Drawn."


@pytest.fixture
def images() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "binary": ["benign", "benign", "malignant", "malignant", ""],
            "multiclass": ["A", "A", "DC", "", ""],
            "magnification": ["40", "100", "40", "", "400"],
            "width": [700, 700, 700, 500, 64],
            "height": [460, 460, 456, 328, 64],
            "brightness": [180.0, 190.5, 170.2, 170.2, 0.0],
        }
    )


def test_the_heat_map_counts_types_in_their_order_and_what_is_unknown(images: pd.DataFrame) -> None:
    axes = plot_classes(images, BREAKHIS, NOTE).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "adenosis (A)", "ductal carcinoma (DC)", "malignant", "unlabelled",
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_xticklabels()] == ["40X", "100X", "400X", "unknown", "all"]
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(4, 5)
    assert counts.tolist() == [[1, 1, 0, 0, 2], [1, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 1, 0, 1]]


def test_rare_sizes_are_summed_and_none_is_left_out(images: pd.DataFrame) -> None:
    axes = plot_sizes(images, NOTE, most=1).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["700 x 460", "3 other sizes"]
    assert [bar.get_width() for bar in axes.patches] == [2, 3]


def test_brightness_shows_every_class_that_is_there(images: pd.DataFrame) -> None:
    legend = plot_brightness(images, BREAKHIS, NOTE).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["benign", "malignant", "unlabelled"]


@pytest.mark.filterwarnings("error")
def test_thirty_classes_leave_room_for_the_plots(tmp_path: Path) -> None:
    names = [f"class number {i}" for i in range(30)]
    table = pd.DataFrame({"label": names * 2, "magnification": "", "width": 64, "height": 64, "brightness": 100.0})
    labels = {"name": "many", "tasks": {"label": {"column": "label", "classes": names}}}
    save_plots(table, LabelScheme.of(params(tasks=["label"], labels=labels).labels), NOTE, tmp_path)


def test_plots_of_equal_tables_are_equal_bytes(images: pd.DataFrame, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        save_plots(images, BREAKHIS, NOTE, tmp_path)
        written.append([(tmp_path / f"{name}.png").read_bytes() for name in ("classes", "sizes", "brightness")])
    assert written[0] == written[1]
    assert Image.open(tmp_path / "classes.png").width > 500


def test_names_that_look_like_a_formula_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    names = ["a $\\frac$ b", "long and longer name " * 9]
    organ = scheme(organ={"column": None, "classes": [name.strip() for name in names]})
    labels = pd.DataFrame(
        {
            "image_id": list("abcdef"), "organ": organ["organ"].names * 3, "slide": list("stuvwx"),
            "magnification": "40", "brightness": np.arange(6.0),
        }
    )  # fmt: skip
    for name, plot in (("classes", plot_classes), ("brightness", plot_brightness)):
        write_png(tmp_path / f"{name}.png", plot(labels, organ, NOTE))
    split = pd.DataFrame({"image_id": list("abcdef"), "part": ["train", "val", "test"] * 2})
    plot_split(labels, split, organ, "case", "0 of 2", tmp_path / "split.png")
    assert (tmp_path / "split.png").stat().st_size > 0


def test_the_words_of_a_split_of_folds_do_not_lie_over_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    organ = scheme(organ={"column": None, "classes": ["a", "b", "c", "d", "e", "f"]})
    ids = [f"i{i:02d}" for i in range(36)]
    classes = np.repeat(organ["organ"].names, 6)
    labels = pd.DataFrame({"image_id": ids, "organ": classes, "slide": ids})
    folds = pd.DataFrame({"image_id": ids, "repeat_1": ["1", "2", "3", "4", "5", "1"] + ["1"] * 30})
    drawn: list[Any] = []
    monkeypatch.setattr("biopsy.tables.split.plots.plt.close", drawn.append)
    says = "0 of 36 test images come from slides seen in training (each image tested by one of 5 folds)"
    plot_split(labels, folds, organ, "case-cv5", says, tmp_path / "split.png")
    (figure,) = drawn
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in (*figure.axes[0].texts, figure.axes[0].title, *figure.legends)]
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
