"""Three pictures of the ingested images: how many of each type, how large, how bright."""

from pathlib import Path
from textwrap import wrap

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biopsy.core.text import drawn
from biopsy.tables.labels.scheme import UNLABELLED, LabelScheme, finest

BAR = "#4c72b0"


def save_plots(images: pd.DataFrame, scheme: LabelScheme, note: str, folder: Path) -> None:
    """Write classes.png, sizes.png and brightness.png; see the functions below for the parameters."""
    figures = {
        "classes": plot_classes(images, scheme, note),
        "sizes": plot_sizes(images, note),
        "brightness": plot_brightness(images, scheme, note),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})


def plot_classes(images: pd.DataFrame, scheme: LabelScheme, note: str) -> Figure:
    """Draw the number of images of each class, the finest known, at each magnification.

    Parameters
    ----------
    images
        One row per image with a label for each task and `magnification`, gaps filled from the file names.
    scheme
        The tasks.
    note
        What the images are, for the title.
    """
    words = {name: text for task in scheme.tasks.values() for name, text in task.words.items()}
    shown = {name: name if name == text else f"{text} ({name})" for name, text in words.items()}
    kinds = pd.Series([shown.get(name, UNLABELLED) for name in finest(images, scheme)])
    order = [shown[name] for task in reversed(scheme.tasks.values()) for name in task.names]
    powers = images["magnification"].reset_index(drop=True).map(lambda power: f"{power}X" if power else "unknown")
    counts = pd.crosstab(kinds, powers)
    rows = [kind for kind in order if kind in counts.index] + [kind for kind in counts.index if kind not in order]
    columns = sorted(counts.columns, key=lambda power: float(power[:-1]) if power != "unknown" else float("inf"))
    counts = counts.loc[rows, columns]
    counts["all"] = counts.sum(axis=1)
    figure, axes = _figure(f"Images by class and magnification\n{note}", (6.5, 0.45 * len(rows) + 1.8))
    shades = counts.assign(all=0)  # the sums are read, not compared
    sns.heatmap(
        shades, annot=counts, fmt="d", cmap="Blues", cbar=False, linewidths=1, ax=axes,
        yticklabels=[drawn(kind) for kind in rows],
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0, rotation=0)
    return figure


def plot_sizes(images: pd.DataFrame, note: str, most: int = 12) -> Figure:
    """Draw the number of images of each size, the `most` frequent ones and the rest; shape of `images` as above."""
    sizes = images["width"].astype(str) + " x " + images["height"].astype(str)
    counts = sizes.value_counts().sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    shown = counts.iloc[:most]
    if len(counts) > most:
        shown = pd.concat([shown, pd.Series({f"{len(counts) - most} other sizes": counts.iloc[most:].sum()})])
    figure, axes = _figure(f"Image sizes, width x height in pixels\n{note}", (6.5, 0.32 * len(shown) + 1.4))
    bars = axes.barh(shown.index, shown, color=BAR, height=0.7)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("images")
    sns.despine(ax=axes)
    return figure


def plot_brightness(images: pd.DataFrame, scheme: LabelScheme, note: str) -> Figure:
    """Draw how the mean brightness (0-255) is distributed in each class of the first task; `images` as above."""
    task = scheme[scheme.columns[0]]
    classes = images[scheme.columns[0]].replace("", UNLABELLED)
    colours = task.colours | {UNLABELLED: "0.6"}
    present = [name for name in colours if (classes == name).any()]
    figure, axes = _figure(f"Mean brightness of an image, by class\n{note}", (6.5, max(3.6, 0.22 * len(present) + 1.4)))
    sns.histplot(
        x=images["brightness"].to_numpy(), hue=classes.to_numpy(), hue_order=present, palette=colours,
        binwidth=5, binrange=(0, 255), element="step", alpha=0.35, ax=axes,
    )  # fmt: skip
    legend = axes.get_legend()
    for text in legend.get_texts() if legend else ():
        text.set_text(drawn(text.get_text()))
    low, high = images["brightness"].min(), images["brightness"].max()
    axes.set_xlim(max(0, low - 10), min(255, high + 10))
    axes.set(xlabel="mean of all RGB values, 0 black, 255 white", ylabel="images")
    sns.despine(ax=axes)
    return figure


def _figure(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    lines = [line for part in title.splitlines() for line in wrap(part, 90)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9)
    axes = figure.add_subplot()
    return figure, axes
