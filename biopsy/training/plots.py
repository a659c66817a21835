"""The picture of a training: loss, accuracy and learning rate per epoch, or the choice of a probe's C."""

from itertools import cycle
from pathlib import Path
from textwrap import fill

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from biopsy.training.probe_layers import FittedLayers


def plot_curves(history: list[dict[str, float]], best: int, title: str, path: Path) -> None:
    """Draw the curves of one training.

    Parameters
    ----------
    history
        One dict an epoch: loss, accuracy, val_loss, val_accuracy, learning_rate.
    best
        The epoch that was kept, from 1.
    title
        What was trained.
    path
        The PNG to write.
    """
    epochs = range(1, len(history) + 1)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy", "learning_rate"), strict=True):
        axis.plot(epochs, [e[name] for e in history], ".-", label="training")
        if f"val_{name}" in history[0]:
            axis.plot(epochs, [e[f"val_{name}"] for e in history], ".-", label="validation")
        axis.axvline(best, color="grey", linestyle=":", label=f"kept: epoch {best}")
        axis.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[1].set_ylim(0, 1.02)
    axes[2].set_yscale("log")
    axes[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def plot_strengths(fitted: FittedLayers, title: str, path: Path) -> None:
    """Draw how well each strength of a probe's penalty did in the inner folds, and which one was kept.

    Parameters
    ----------
    fitted
        The fitted probes. Where nothing was chosen, the first note says why.
    title
        What was trained.
    path
        The PNG to write.
    """
    figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for (part, probe), colour in zip(fitted.probes.items(), cycle(plt.rcParams["axes.prop_cycle"].by_key()["color"])):
        strengths = sorted(probe.scores)
        axis.plot(strengths, [probe.scores[c] for c in strengths], ".-", color=colour, label=f"{part}: C = {probe.C:g}")
        axis.axvline(probe.C, color=colour, linestyle=":")
    if not any(probe.scores for probe in fitted.probes.values()):
        why = fill("".join(fitted.notes[:1]), 60)
        axis.text(
            0.5, 0.5, why, ha="center", transform=axis.transAxes, bbox={"facecolor": "white", "edgecolor": "none"}
        )
        kept = [probe.C for probe in fitted.probes.values()]
        axis.set_xlim(min(kept) / 10, max(kept) * 10)  # equal lines alone give no range
    axis.set(title=title, xscale="log", xlabel="C (a larger C is a weaker penalty)", ylabel="macro-F1", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", title="kept (dotted)")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
