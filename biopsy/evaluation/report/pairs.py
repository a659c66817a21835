"""Two classes that a model takes for each other, slide by slide: is it the tissue, or a few slides?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from biopsy.core.text import count, isolated
from biopsy.evaluation.report.groups import MOST_SLIDES
from biopsy.evaluation.report.results import Result

ASKED = ("DC", "LC")  # why BreakHis's ductal and lobular carcinoma are confused is asked since its first reports


def confused_pairs(result: Result, labels: pd.DataFrame, ingest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Look at the two classes that are confused most, and at DC and LC where there are such.

    Parameters
    ----------
    result
        Of a task; of one with two classes there is nothing to choose.
    labels
        `slide` and the task's column, of all images.
    ingest
        metrics/ingest.json: equal pictures, and slides, under two labels.

    Returns
    -------
    list of dict
        `first`, `second`, `says` (sentences), `rows` (one a tested slide), `more` (slides not shown).
    """
    outcome, names = result.test.outcome, list(result.test.outcome.classes)
    if len(names) < 3:
        return []
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (outcome.truth, outcome.predicted), 1)
    both = np.triu(matrix + matrix.T, 1)
    most = np.unravel_index(both.argmax(), both.shape)
    chosen = [(names[most[0]], names[most[1]])] if both.max() else []
    if set(ASKED) <= set(names) and set(ASKED) not in map(set, chosen):
        chosen.append(ASKED)
    return [_pair(result, pair, labels, ingest) for pair in chosen]


def _pair(result: Result, pair: tuple[str, str], labels: pd.DataFrame, ingest: Mapping[str, Any]) -> dict[str, Any]:
    rows = slides_of(result, pair)
    says = [_called(rows, *pair), _called(rows, *pair[::-1])]
    if total := sum(row["wrong"] for row in rows):
        mostly = [row["wrong"] for row in rows if 2 * row["wrong"] > row["images"]]
        its = "its" if len(mostly) == 1 else "their"
        says.append(
            f"{sum(mostly)} of these {count(total, 'image')} are of {count(len(mostly), 'slide')} with more than half "
            f"of {its} images predicted as the other class."
            if mostly
            else "No slide has more than half of its images predicted as the other class."
        )
    says.append(_shared(pair, labels, result.job.task, ingest))
    more = max(0, len(rows) - MOST_SLIDES)
    return {"first": pair[0], "second": pair[1], "says": says, "rows": rows[:MOST_SLIDES], "more": more}


def slides_of(result: Result, pair: tuple[str, str]) -> list[dict[str, Any]]:
    """Count for each tested slide of two classes what its images were called, the most confused slide first."""
    outcome, slides = result.test.outcome, result.test.rows["slide"].to_numpy(str)
    names = np.array(outcome.classes)
    truth, called = names[outcome.truth], names[outcome.predicted]
    rows = []
    for slide, name in sorted({(s, t) for s, t in zip(slides, truth, strict=True) if t in pair}):
        told = called[(slides == slide) & (truth == name)]
        first, second = (int((told == one).sum()) for one in pair)
        about = {
            "slide": slide or "not known",
            "truth": str(name),
            "images": len(told),
            "first": first,
            "second": second,
        }
        rows.append({**about, "another": len(told) - first - second, "wrong": second if name == pair[0] else first})
    return sorted(rows, key=lambda row: -row["wrong"] / row["images"])


def _called(rows: list[dict[str, Any]], truth: str, other: str) -> str:
    """Say how many images, on how many slides, were called the other class."""
    own = [row for row in rows if row["truth"] == truth]
    if not own:
        return f"{truth} is not tested."
    return (
        f"{isolated(truth)} predicted as {isolated(other)}: {sum(row['wrong'] for row in own)} of "
        f"{count(sum(row['images'] for row in own), 'image')}, on {sum(row['wrong'] > 0 for row in own)} of "
        f"{count(len(own), 'slide')}."
    )


def _shared(pair: tuple[str, str], labels: pd.DataFrame, task: str, ingest: Mapping[str, Any]) -> str:
    """Say which slides, and which equal pictures, stand under both classes, in the table and among the images used."""
    filed = [slide for slide, found in ingest.get("slides_under_two_labels", {}).items() if set(pair) <= set(found)]
    equal = [found for found in ingest.get("conflicts", {}).get("by_slide", {}).values() if set(pair) <= set(found)]
    used: list[str] = []
    if {"slide", task} <= set(labels):
        known = labels[labels[task].isin(pair) & (labels["slide"] != "")]
        classes = known.groupby("slide")[task].nunique()
        used = list(classes.index[classes > 1])
    listed = f": {', '.join(filed[:MOST_SLIDES])}" if filed else ""
    pictures = sum(sum(found[name] for name in pair) for found in equal)
    if not (filed or pictures or used):
        return "No slide and no identical images are labelled as both classes."
    return (
        f"Labelled as both classes: {count(len(filed), 'slide')} in the table{listed}; "
        f"{count(pictures, 'identical image')}; {count(len(used), 'slide')} of the images used."
    )
