"""Draw all experiments side by side: one dot a seed, so that differences show."""

from itertools import cycle
from pathlib import Path
from statistics import fmean

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from biopsy.core.files import write_png
from biopsy.experiments.kinds import with_kind
from biopsy.experiments.page import by_preset, models_of, scores_by_seed
from biopsy.experiments.runs import BASELINE, Run

COLOURS = ("#dd8452", "#4c72b0", "#55a868", "#8172b3", "#937860", "#da8bc3")


def plot_experiments(runs: list[Run], path: Path) -> None:
    """Write a PNG: test macro-F1 of every run, a panel a task, a colour a protocol; lines mark the baseline's means.

    Parameters
    ----------
    runs
        All runs; failed ones are left out.
    path
        The PNG to write.
    """
    done = by_preset(runs)
    names = list(done)
    models = models_of(runs)
    size = (max(7, 5.5 * len(models)), 1.6 + 0.26 * len(names))
    figure, grid = plt.subplots(1, len(models), figsize=size, sharey=True, layout="constrained", squeeze=False)
    axes = grid[0]
    for axis, (task, protocols) in zip(axes, models.items(), strict=True):
        for protocol, colour in zip(protocols, cycle(COLOURS), strict=False):
            model = f"{task}-{protocol}"
            dots = [(score, row) for row, name in enumerate(names) for _, score in scores_by_seed(done[name], model)]
            x, y = np.array(dots).reshape(-1, 2).T
            axis.scatter(x, y, s=22, alpha=0.7, color=colour, label=f"protocol {with_kind(protocol)}")
            if baseline := scores_by_seed(done.get(BASELINE, []), model):
                axis.axvline(fmean(score for _, score in baseline), color=colour, linestyle=":", linewidth=1)
        axis.set(xlim=(0, 1), xlabel="test macro-F1, one dot a seed", title=task)
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    if BASELINE in done:
        figure.suptitle("dotted: the baseline's mean", x=0.01, ha="left", fontsize=9)
    write_png(path, figure, dpi=110)
    plt.close(figure)
