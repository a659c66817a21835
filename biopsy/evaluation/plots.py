"""The pictures of a test, as PNGs that a person opens. Equal inputs give equal bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from sklearn.metrics import confusion_matrix

from biopsy.core.text import count, drawn
from biopsy.evaluation.outcome import Outcome, Undefined
from biopsy.networks.model_file import NOTICE
from biopsy.tables.labels.scheme import SchemeTask

FEWEST_CASES = 5  # below, a bar says more of these few cases than of its magnification
PALE = "#b5bcc4"
BLUE, ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito's colours, told apart by colour-blind readers


@dataclass(frozen=True)
class About:
    """What a picture must say of its data: which model, how many images and cases, and whether they are drawn ones.

    `scheme` has the classes' colours, and says which are positive: these are drawn in solid lines, others dashed.
    """

    scheme: SchemeTask
    task: str
    protocol: str
    images: int
    cases: int | None
    synthetic: bool

    def title(self, what: str) -> str:
        """Put it in two lines."""
        cases = "cases not known" if self.cases is None else count(self.cases, "case")
        origin = ", synthetic sample" if self.synthetic else ""
        counts = f"{count(self.images, 'image')}, {cases}{origin}"
        return f"{what}: {self.task}, protocol {self.protocol}\ntest set: {counts}"


def plot_confusion(outcome: Outcome, about: About) -> Figure:
    """Draw counts and, beside them, each row's shares; a class that is not tested has an empty row."""
    names = [drawn(name) for name in outcome.classes]
    counts = confusion_matrix(outcome.truth, outcome.predicted, labels=range(len(names)))
    rows = counts.sum(1, keepdims=True)
    shares = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
    side = 5.0 if len(names) < 10 else 0.45 * len(names) + 1.5
    figure = blank(about.title("Confusion matrix"), (2 * side, side + 0.5) if len(names) > 2 else (9, 4.8))
    left, right = figure.subplots(1, 2)
    _matrix(left, counts.astype(float), names, "{:.0f}", "images")
    _matrix(right, shares, names, "{:.2f}", "share of the actual class")
    left.set_ylabel("actual")
    absent = [name for name, row in zip(names, rows[:, 0], strict=True) if not row]
    if absent:
        figure.text(0.01, 0.01, f"not in the test set: {', '.join(absent)}", fontsize=8, color="0.35")
    return figure


def plot_curves(
    table: pd.DataFrame, kind: str, details: dict[str, Any], about: About, band: pd.DataFrame | Undefined | None = None
) -> Figure:
    """Draw ROC or precision-recall curves, each class against the rest.

    Parameters
    ----------
    table
        From `biopsy.evaluation.predictions.curve_table`.
    kind
        'roc' or 'pr'.
    details
        From `biopsy.evaluation.figures.evaluate_outcome`: the areas.
    about
        The title's facts.
    band
        From `biopsy.evaluation.roc_band.roc_band`.
    """
    x, y = table.columns[1:]
    what, score = ("ROC", "roc_auc") if kind == "roc" else ("Precision and recall", "pr_auc")
    many = len(details["classes"]) > 16  # the legend takes two columns
    long = max(map(len, details["classes"])) > 16
    figure = blank(about.title(what), (9.4, 5.6) if many or long else (7.4, 5.4))
    axes = figure.subplots()
    classes = details["classes"][1:] if len(details["classes"]) == 2 else details["classes"]
    dashed = set(details["classes"]) - set(about.scheme.positive) if about.scheme.positive else set()
    labels = []  # not those of the lines: one that begins with _ would be left out
    for name in classes:
        area, points = details["per_class"][name][score], table[table["class"] == name]
        labels.append(f"{drawn(name)}  not defined" if area is None else f"{drawn(name)}  {area:.2f}")
        style = " " if area is None else "--" if name in dashed else "-"
        axes.plot(points[x], points[y], style, color=about.scheme.colours[name], linewidth=1.8, clip_on=False)
    if kind == "roc":
        axes.plot([0, 1], [0, 1], ":", color="0.6", linewidth=1)
        labels.append("chance")
        axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    else:
        axes.set(xlabel="recall (sensitivity)", ylabel="precision")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    axes.grid(alpha=0.3)
    title, marks = "area under the curve", list[Artist](axes.lines)
    if isinstance(band, pd.DataFrame):
        shade = about.scheme.colours[classes[0]]
        marks.append(axes.fill_between(band["fpr"], band["low"], band["high"], color=shade, alpha=0.18, linewidth=0))
        labels.append("95 % interval at\neach threshold")
    figure.legend(
        marks, labels, title=title, loc="outside right center", frameon=False, alignment="left",
        ncols=2 if many else 1, fontsize="small" if many else None,
    )  # fmt: skip
    return figure


def plot_magnifications(table: pd.DataFrame, macro_f1: float, about: About) -> Figure:
    """Draw macro-F1 at each magnification with the number of images and cases; the line is that of all images."""
    figure = blank(about.title("Macro-F1 by magnification"), (6.4, 4.2))
    axes = figure.subplots()
    cases = ["" if pd.isna(n) else f"\n{count(int(n), 'case')}" for n in table["cases"].astype(float)]
    images = [count(n, "image") for n in table["images"]]
    marks = [f"{m}\n{n}{c}" for m, n, c in zip(table["magnification"], images, cases, strict=True)]
    few = (table["cases"].astype(float) < FEWEST_CASES).to_numpy()  # not where cases are not known
    bars = axes.bar(marks, table["macro_f1"].astype(float), width=0.6, color=np.where(few, PALE, BLUE))
    axes.bar_label(bars, fmt="%.2f", padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.axhline(macro_f1, color=ORANGE, linestyle="--", linewidth=1.2, label=f"all images: {macro_f1:.2f}")
    axes.set(ylim=(0, 1.25), ylabel="macro-F1", xlim=(-0.6, len(table) - 0.4))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.spines[["top", "right"]].set_visible(False)
    if few.any():
        axes.bar(0, 0, color=PALE, label=f"fewer than {FEWEST_CASES} cases")
    axes.legend(loc="upper right", frameon=False, ncols=2)
    return figure


def blank(title: str, size: tuple[float, float]) -> Figure:
    """Return a figure of this size in inches, with its title and the notice."""
    foot = 0.27 / size[1]  # inches: the notice's line
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - foot)))
    figure.suptitle(title, fontsize=11)
    figure.text(0.99, 0.01, NOTICE, ha="right", fontsize=8, color="0.35")
    return figure


def _matrix(axes: Axes, values: np.ndarray, names: Sequence[str], form: str, title: str) -> None:
    """Draw one matrix with its numbers; NaN cells are grey and empty."""
    top = np.nanmax(values) or 1.0
    axes.set_facecolor("0.9")
    axes.imshow(values, cmap="Blues", vmin=0, vmax=top)
    turn = 90 if len(names) * max(map(len, names)) > 40 else 0
    axes.set_xticks(range(len(names)), names, rotation=turn)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", title=title)
    size = 9 if len(names) < 16 else 6
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            shade = "white" if value > 0.6 * top else "0.65" if value == 0 else "black"
            axes.text(j, i, form.format(value), ha="center", va="center", color=shade, fontsize=size)
