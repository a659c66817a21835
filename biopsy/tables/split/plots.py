"""Draw a split: how many images, and of how many slides, each class has in each part."""

from pathlib import Path
from textwrap import fill

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from biopsy.core.errors import some
from biopsy.core.protocol import PARTS
from biopsy.core.text import drawn
from biopsy.tables.labels.scheme import UNLABELLED, LabelScheme, finest
from biopsy.tables.split.folds import column_of

LINE = 90  # letters of the title, which must not run into the legend
COLOURS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}


def plot_split(
    labels: pd.DataFrame, split: pd.DataFrame, scheme: LabelScheme, protocol: str, says: str, path: Path
) -> None:
    """Draw one stacked bar per class (the finest known), the number of slides of each part above it.

    Parameters
    ----------
    labels, split : DataFrame of n rows
        For a cross-validation, the folds of the first repeat are drawn instead of the parts.
    scheme
        That of the labels.
    protocol
        For the title.
    says
        The leak, in a sentence, for the line below the title.
    path
        The PNG to write.
    """
    table, parts, colours = labels.merge(split, on="image_id"), list(PARTS), COLOURS
    if "part" not in table:
        folds = table[column_of(1)].astype(int)
        table["part"], parts = "fold " + folds.astype(str), [f"fold {i}" for i in range(1, folds.max() + 1)]
        colours = {part: to_hex(mpl.colormaps["tab20"](i % 20)) for i, part in enumerate(parts)}
    table["slide"] = table["slide"].where(table["slide"] != "")  # the unknown is not counted
    table["stratum"] = finest(table, scheme)
    order = [name for task in reversed(scheme.tasks.values()) for name in task.names]
    present = set(table["stratum"])
    strata = [name for name in dict.fromkeys([*order, UNLABELLED]) if name in present]
    images = pd.crosstab(table["stratum"], table["part"]).reindex(index=strata, columns=parts, fill_value=0)
    known = table.dropna(subset="slide").drop_duplicates(["stratum", "part", "slide"])
    slides = pd.crosstab(known["stratum"], known["part"]).reindex(index=strata, columns=parts, fill_value=0)
    figure, axes = plt.subplots(figsize=(max(9, 0.75 * len(strata)), 4.5), layout="constrained")
    bottom = np.zeros(len(strata))
    for part in parts:
        axes.bar(
            range(len(strata)), images[part], bottom=bottom, color=colours[part], label=f"{part} ({images[part].sum()})"
        )
        bottom += images[part].to_numpy()
    for x, stratum in enumerate(strata):
        missing = [part for part in parts if not images.loc[stratum, part]]
        note = " | ".join(str(n) for n in slides.loc[stratum])
        if missing and len(parts) == len(PARTS):  # of more folds the zeros say it, and their names need more room
            note += f"\nno {some(missing, 3)}"
        axes.text(x, bottom[x] + 0.01 * bottom.max(), note, ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(strata)), map(drawn, strata), rotation=30 if max(map(len, strata)) > 6 else 0)
    axes.set_ylim(top=1.1 * bottom.max())
    axes.set_ylabel("images")
    axes.set_title(fill(f"protocol {protocol}: {says}", LINE), fontsize=10)
    legend = "images; above the bars:\nslides in " + " | ".join(parts if len(parts) < 4 else ["fold 1", "2", "..."])
    figure.legend(title=legend, loc="outside right upper", fontsize=8, title_fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
