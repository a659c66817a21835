"""Where a model fails: by type, magnification and slide, and the worst errors one by one."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from biopsy.core.errors import BiopsyError
from biopsy.core.text import count
from biopsy.evaluation.errors import Error, find_errors
from biopsy.evaluation.intervals import wilson
from biopsy.evaluation.predictions import Answers
from biopsy.images.decode import read_rgb

FEWEST_CASES = 5  # below, a share says more of these few cases than of their group
FEWEST_IMAGES = 5  # below, a slide that is wholly wrong may be so by chance
MOST_SLIDES = 15
SIDE = 200  # pixels of a picture's longer side


def by_group(answers: Answers, groups: pd.Series) -> list[dict[str, Any]]:
    """Count what was called right in each group, the group with the lowest share first.

    Parameters
    ----------
    answers
        Of n images.
    groups
        (n,) text; an empty one is 'not known'.

    Returns
    -------
    list of dict
        `name`, `images`, `cases` (None if not known), `right`, and `share`, `low`, `high` (Wilson's interval with the
        cases as its count), or `few`: why there is no interval.
    """
    right, cases = answers.outcome.predicted == answers.outcome.truth, answers.cases
    rows = []
    for name in sorted(set(groups)):
        chosen = (groups == name).to_numpy()
        units = cases[chosen]
        n = len(np.unique(units)) if (units != "").all() else None
        row: dict[str, Any] = {"name": name or "not known", "images": int(chosen.sum()), "cases": n}
        row["right"], share = int(right[chosen].sum()), float(right[chosen].mean())
        if n is None:
            row["few"] = "cases not known"
        elif n < FEWEST_CASES:
            row["few"] = "too few cases"
        else:
            interval = wilson(share, n)
            row |= {"low": interval.low, "high": interval.high, "share": share}
        rows.append(row)
    return sorted(rows, key=lambda row: (row["right"] / row["images"], row["name"]))


def by_slide(answers: Answers) -> list[dict[str, Any]]:
    """Count what was called right on each known slide, the slide with the lowest share first.

    Returns
    -------
    list of dict
        `name`, `truth` (its classes), `images`, `right`, `instead` (the most frequent wrong answer and how often it was
        given; None where all are right), `wholly` (no image is right), and `few` (too few images to say so).
    """
    outcome, slides = answers.outcome, answers.rows["slide"].to_numpy(str)
    right, rows = outcome.predicted == outcome.truth, []
    for name in np.unique(slides[slides != ""]):
        chosen = slides == name
        wrong = np.bincount(outcome.predicted[chosen & ~right], minlength=len(outcome.classes))
        rows.append(
            {
                "name": str(name),
                "truth": ", ".join(outcome.classes[i] for i in np.unique(outcome.truth[chosen])),
                "images": int(chosen.sum()),
                "right": int(right[chosen].sum()),
                "instead": (outcome.classes[int(wrong.argmax())], int(wrong.max())) if wrong.any() else None,
                "wholly": not right[chosen].any(),
                "few": int(chosen.sum()) < FEWEST_IMAGES,
            }
        )
    return sorted(rows, key=lambda row: (row["right"] / row["images"], -row["images"], row["name"]))


def say_slides(slides: list[dict[str, Any]]) -> str:
    """Say which slides are wholly wrong, from the rows of `by_slide`."""
    told = [row for row in slides if not row["few"]]
    if not slides:
        return "The slides of the test images are not known."
    few = len(slides) - len(told)
    rest = f" {count(few, 'slide')} with fewer images {'do' if few > 1 else 'does'} not count." if few else ""
    if not told:
        return f"Too few images: no slide has {FEWEST_IMAGES}, so none can be said to fail as a whole."
    bad = [row["name"] for row in told if row["wholly"]]
    shown = ", ".join(bad[:MOST_SLIDES]) + (" and others" if len(bad) > MOST_SLIDES else "")
    of = f"{len(bad)} of {count(len(told), 'slide')} with {FEWEST_IMAGES} images or more"
    return f"All images wrong: {of}{f': {shown}' if bad else ''}.{rest}"


def error_pictures(
    answers: Answers, paths: dict[str, str], images: Path, max_pixels: int
) -> list[tuple[Error, str | None]]:
    """Show the worst errors.

    Parameters
    ----------
    answers
        Of n images.
    paths
        From `image_id` to the file below `images`.
    images
        The folder of the originals.
    max_pixels
        Larger images are not opened.

    Returns
    -------
    list
        Each error, and its picture as a data URI; None where the original cannot be read.
    """
    return [
        (error, thumbnail(images / paths[error.image_id], max_pixels) if error.image_id in paths else None)
        for error in find_errors(answers.outcome, answers.rows)
    ]


def thumbnail(path: Path, max_pixels: int) -> str | None:
    """Return a small JPEG as a data URI; None where the image cannot be read."""
    try:
        picture = Image.fromarray(read_rgb(path, max_pixels))
    except BiopsyError:
        return None
    return picture_uri(picture)


def picture_uri(picture: Image.Image) -> str:
    """Return a picture as a data URI of a small JPEG, at most 200 pixels long."""
    picture.thumbnail((SIDE, SIDE))
    with BytesIO() as stream:
        picture.save(stream, "JPEG", quality=75)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
