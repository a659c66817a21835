"""Where a model fails: by type, magnification and slide, and the worst errors one by one."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from biopsy.core.errors import BiopsyError
from biopsy.evaluation.intervals import wilson
from biopsy.evaluation.report.results import Answers
from biopsy.images.decode import read_rgb

FEWEST_CASES = 5  # below, a share says more of these few cases than of their group
MOST_SLIDES = 15
WORST = 12
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
        `name`, `images`, `cases` (None where they are not known), `right`, and `share`, `low`, `high` (Wilson's
        interval with the cases as its count), or `few`: why there is none.
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


def worst_errors(answers: Answers, paths: dict[str, str], images: Path, max_pixels: int) -> list[dict[str, Any]]:
    """Show the wrong answers that gave the truth the least probability.

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
    list of dict
        At most twelve: `image_id`, `slide`, `truth`, `predicted`, `p_truth`, `p_predicted`, and `picture`, a data URI,
        None where the original cannot be read.
    """
    outcome, rows = answers.outcome, np.arange(len(answers.rows))
    own, said = outcome.probabilities[rows, outcome.truth], outcome.probabilities[rows, outcome.predicted]
    order = np.lexsort((answers.rows["image_id"].to_numpy(str), own))
    wrong = [i for i in order if outcome.predicted[i] != outcome.truth[i]][:WORST]
    return [
        {
            "image_id": (image_id := answers.rows["image_id"].iloc[i]),
            "slide": answers.rows["slide"].iloc[i] or "not known",
            "truth": outcome.classes[outcome.truth[i]],
            "predicted": outcome.classes[outcome.predicted[i]],
            "p_truth": float(own[i]),
            "p_predicted": float(said[i]),
            "picture": thumbnail(images / paths[image_id], max_pixels) if image_id in paths else None,
        }
        for i in wrong
    ]


def thumbnail(path: Path, max_pixels: int) -> str | None:
    """Return a small JPEG as a data URI; None where the image cannot be read."""
    try:
        picture = Image.fromarray(read_rgb(path, max_pixels))
    except BiopsyError:
        return None
    picture.thumbnail((SIDE, SIDE))
    with BytesIO() as stream:
        picture.save(stream, "JPEG", quality=75)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
