"""The tables that DVC draws and the pictures that a person opens."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from biopsy.core.files import atomic_dir, write_csv, write_png
from biopsy.evaluation.errors import find_errors, plot_errors, whole_picture
from biopsy.evaluation.plots import About, plot_confusion, plot_curves, plot_magnifications
from biopsy.evaluation.predictions import Answers, confusion_table, curve_table, magnification_table
from biopsy.evaluation.roc_band import roc_band
from biopsy.images.preparation.record import Preparation
from biopsy.networks.model_file import Card
from biopsy.tables.split.parts import read_views


def draw(answers: Answers, card: Card, details: dict[str, Any], folder: Path) -> None:
    """Write the tables that DVC draws and the pictures that a person opens."""
    scheme, outcome = card.labels[card.task], answers.outcome
    about = About(scheme, **{key: details[key] for key in ("task", "protocol", "images", "cases", "synthetic")})
    by_magnification = magnification_table(details)
    with atomic_dir(folder) as new:
        write_csv(new / "confusion.csv", confusion_table(outcome))
        write_png(new / "confusion.png", plot_confusion(outcome, about))
        for kind in ("roc", "pr"):
            curves = curve_table(outcome, kind)
            write_csv(new / f"{kind}.csv", curves)
            band = roc_band(outcome, answers.cases) if kind == "roc" else None
            write_png(new / f"{kind}.png", plot_curves(curves, kind, details, about, band))
        write_csv(new / "magnification.csv", by_magnification)
        overall = details["image_level"]["macro_f1"]
        write_png(new / "magnification.png", plot_magnifications(by_magnification, overall, about))
        write_png(new / "errors.png", draw_errors(answers, card.preparation, about))


def draw_errors(answers: Answers, preparation: Preparation, about: About) -> Figure:
    """Show the worst errors as the network saw them."""
    errors = find_errors(answers.outcome, answers.rows)
    files = [Path(answers.rows["file"].iloc[error.row]) for error in errors]
    views = read_views(files, preparation.size, preparation.views)
    pictures = [whole_picture(each, preparation.resize) for each in views]
    return plot_errors(errors, pictures, int((answers.outcome.predicted != answers.outcome.truth).sum()), about)
