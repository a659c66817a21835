"""The picture of a training: loss, accuracy and learning rate per epoch."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


def plot_curves(history: list[dict[str, float]], best: int, title: str, path: Path) -> None:
    """Draw the curves of one training.

    Parameters
    ----------
    history
        One dict an epoch: loss, accuracy, val_loss, val_accuracy, learning_rate; of a probe, which is one epoch
        without a learning rate, `C` in its place.
    best
        The epoch that was kept, from 1.
    title
        What was trained.
    path
        The PNG to write.
    """
    epochs = range(1, len(history) + 1)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    last = "learning_rate" if "learning_rate" in history[0] else "C"
    for axis, name in zip(axes, ("loss", "accuracy", last), strict=True):
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
