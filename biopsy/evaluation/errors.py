"""The worst errors of a test: the wrong answers of which the model was surest, and a sheet of their pictures."""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopsy.core.sections.data import Resize
from biopsy.evaluation.outcome import Outcome
from biopsy.evaluation.plots import About, blank

WORST = 12
COLUMNS = 4
SIDE = 320  # pixels of a picture's longer side
LONGEST = 26  # letters of a name below a picture


@dataclass(frozen=True)
class Error:
    """A wrong answer: its row, the true and the predicted class, and the probability of each."""

    row: int
    image_id: str
    slide: str
    truth: str
    predicted: str
    p_truth: float
    p_predicted: float


def find_errors(outcome: Outcome, rows: pd.DataFrame) -> list[Error]:
    """Return the wrong answers with the largest probability of what was called, at most twelve, the surest first.

    Parameters
    ----------
    outcome
        Of n images.
    rows
        n rows with `image_id` and `slide`, in the same order.
    """
    places, ids = np.arange(len(outcome.truth)), rows["image_id"].to_numpy(str)
    own, said = (outcome.probabilities[places, classes] for classes in (outcome.truth, outcome.predicted))
    wrong = outcome.predicted != outcome.truth
    order = [i for i in np.lexsort((ids, -said)) if wrong[i]][:WORST]
    return [
        Error(
            row=int(i),
            image_id=str(ids[i]),
            slide=str(rows["slide"].iloc[i]) or "not known",
            truth=outcome.classes[outcome.truth[i]],
            predicted=outcome.classes[outcome.predicted[i]],
            p_truth=float(own[i]),
            p_predicted=float(said[i]),
        )
        for i in order
    ]


def whole_picture(views: NDArray[np.uint8], resize: Resize) -> NDArray[np.uint8]:
    """Put the views of an image, (v, s, s, 3), side by side as they lie in it, at most 320 pixels long: (h, w, 3)."""
    rows, columns = (resize.tiles.rows, resize.tiles.columns) if resize.mode == "tiles" else (1, 1)
    side = views.shape[1]
    whole = views.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    scale = SIDE / max(whole.shape[:2])
    if scale >= 1:
        return whole
    size = [max(1, round(length * scale)) for length in (whole.shape[1], whole.shape[0])]
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)


def plot_errors(errors: list[Error], pictures: list[NDArray[np.uint8]], wrong: int, about: About) -> Figure:
    """Draw a sheet of at most twelve errors, each with truth, answer, probabilities and slide.

    Parameters
    ----------
    errors, pictures
        From `find_errors`, and the picture of each, (h, w, 3) uint8.
    wrong
        How many test images were called wrong.
    about
        The title's facts.
    """
    lines = max(1, -(-len(errors) // COLUMNS))
    tallest = max((picture.shape[0] / picture.shape[1] for picture in pictures), default=1.0)
    figure = blank(
        about.title(f"The {len(errors)} most confident of {wrong} errors" if errors else "Errors"),
        (9.6, 1 + (0.8 + 2.3 * min(1.0, tallest)) * lines),
    )
    if not errors:
        figure.text(0.5, 0.5, "None: every test image was classified correctly.", ha="center", va="center", fontsize=11)
        return figure
    grid = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, error, picture in zip(grid, errors, pictures, strict=False):
        axes.imshow(picture, interpolation="nearest")
        said = (
            f"true {_short(error.truth)} ({error.p_truth:.2f})\n"
            f"predicted {_short(error.predicted)} ({error.p_predicted:.2f})\nslide {_short(error.slide)}"
        )
        axes.set_title(said, fontsize=8.5, loc="left", y=-0.05, va="top", parse_math=False)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
