"""What in the data itself may be wrong: labels that look like errors, and images unlike all others, with pictures."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import euclidean_distances

from biopsy.core.errors import some
from biopsy.core.text import count
from biopsy.evaluation.appearance import LOOKS, features_of
from biopsy.evaluation.label_errors import find_label_errors
from biopsy.evaluation.report.copies import FENCE, FEWEST, alike
from biopsy.evaluation.report.groups import thumbnail
from biopsy.evaluation.report.results import Result
from biopsy.images.looks.record import SHORT, Looks, Range, ranges_of

SHOWN = 8  # pictures of each kind
MANY = 0.1  # share of the labels, above which errors of the model are more likely than errors of the labels


def audits(results: Iterable[Result], labels: pd.DataFrame, images: Path, max_pixels: int) -> list[dict[str, Any]]:
    """Audit several results, as `audit`; pictures that an earlier one shows are not shown again."""
    found: list[dict[str, Any]] = []
    for one in (audit(result, labels, images, max_pixels) for result in results):
        for kind, pictures in (("unlike", "sheet"), ("alike", "pairs")):
            own = one[kind]
            twin = next((other for other in found if own[pictures] and other[kind][pictures] == own[pictures]), None)
            if twin:
                one[kind] = {"says": [f"The same as of {twin['title']}."], pictures: []}
        found.append(one)
    return found


def audit(result: Result, labels: pd.DataFrame, images: Path, max_pixels: int) -> dict[str, Any]:
    """Look for probable label errors among the tested images, and for images unlike the others.

    Parameters
    ----------
    result
        The answers of models that have not learnt from the tested images, and how images look.
    labels
        `image_id`, `path` below `images`, `case`.
    images, max_pixels
        The folder of the originals, of which larger ones are not opened.

    Returns
    -------
    dict
        `title`, `id`, and `labels` and `unlike`, each with `says` (sentences) and `sheet`: dicts of `id`, `picture` (a
        data URI; None where it cannot be read) and `lines` of text; and `alike`, see there.
    """
    paths = dict(zip(labels["image_id"], labels["path"], strict=True))

    def sheet(found: list[tuple[str, list[str]]]) -> list[dict[str, Any]]:
        shown = {name: thumbnail(images / paths[name], max_pixels) for name, _ in found[:SHOWN] if name in paths}
        return [{"id": name, "lines": lines, "picture": shown.get(name)} for name, lines in found[:SHOWN]]

    wrong, told = label_errors(result)
    odd, said = unlike_images(result, labels)
    return {
        "title": result.title,
        "id": f"audit-{result.job.name}",
        "labels": {"says": told, "sheet": sheet(wrong)},
        "unlike": {"says": said, "sheet": sheet(odd)},
        "alike": alike(result, labels, max_pixels),
    }


def label_errors(result: Result) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """List the images whose label is probably wrong, the surest first, each with lines of text; and sentences."""
    rows, found = result.test.rows, find_label_errors(result.test.outcome)
    n = len(rows)
    says = [f"{len(found)} of {count(n, 'tested image')} may have a wrong label."]
    if len(found) > MANY * n:
        return [], [
            f"The rule names {len(found)} of {count(n, 'tested image')}, too many to be wrong labels: most are errors "
            "of the model, which is wrong too often for this rule. None is shown."
        ]
    slides = Counter(rows["slide"].iloc[error.row] for error in found)
    whole = [s for s, k in sorted(slides.items()) if s and k > 1 and k == (rows["slide"] == s).sum()]
    if whole:
        says.append(f"With all their images: {count(len(whole), 'slide')} ({some(whole, SHOWN)}).")
    told = []
    for error in found:
        name, slide = rows[["image_id", "slide"]].iloc[error.row]
        told.append((str(name), [f"labelled {error.label}", f"seems {error.seems}", f"slide {slide or 'not known'}"]))
    return told, says


def unlike_images(result: Result, labels: pd.DataFrame) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """List the images that are unlike the others, the oddest first, each with what is odd; and sentences."""
    table = result.appearance
    if table is None or len(table) < FEWEST:
        return [], ["Not looked for: how the images look is not known, or there are fewer than 20."]
    measured = table[list(LOOKS)].to_dict("records")
    looks = [{str(name): value for name, value in row.items() if value == value} for row in measured]
    training = [look for look, part in zip(looks, table["part"], strict=True) if part == "train"]
    ranges = ranges_of(training or looks)
    far = distance_ratios(table, labels)
    found, by_looks = [], 0
    for name, look, ratio in zip(table["image_id"], looks, far, strict=True):
        unlike = ranges.unlike(look)
        lines = [_told(look, key, ranges) for key in unlike]
        by_looks += bool(lines)
        if ratio:
            lines.append(f"features {ratio:.1f} times as far from the nearest image of another case as usual")
        if lines:
            found.append((-max([ratio, *(_beyond(look[key], ranges.ranges[key]) for key in unlike)]), str(name), lines))
    says = [
        f"{len(found)} of {count(len(table), 'image')} are unlike the others: {by_looks} in stain, focus, brightness "
        f"or share of tissue, {int((far > 0).sum())} in what the network sees."
    ]
    if not features_of(table).shape[1]:
        says.append("What the network sees was not measured.")
    return [(name, lines) for _, name, lines in sorted(found)], says


def distance_ratios(table: pd.DataFrame, labels: pd.DataFrame) -> np.ndarray:
    """Return how far each image is from the nearest of another case, over the median; 0 where that is not far out.

    Far out is above the third quartile by three quartile distances, of the logarithms (Tukey, 1977). (n,) float.
    """
    features, ratios = features_of(table), np.zeros(len(table))
    known = np.flatnonzero(np.isfinite(features).all(1)) if features.shape[1] else np.empty(0, int)
    if len(known) < FEWEST or "case" not in labels:
        return ratios
    case = table["image_id"].map(dict(zip(labels["image_id"], labels["case"], strict=True))).fillna("").to_numpy(str)
    case = case[known]
    apart = euclidean_distances(features[known])
    apart[(case[:, None] == case) & (case != "")] = np.inf
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(1)
    finite = np.isfinite(nearest) & (nearest > 0)
    if finite.sum() < FEWEST:
        return ratios
    logs = np.log(nearest[finite])
    low, median, high = np.quantile(logs, (0.25, 0.5, 0.75))
    out = logs > high + FENCE * (high - low)
    ratios[known[finite][out]] = np.exp(logs[out] - median)
    return ratios


def _beyond(value: float, usual: Range) -> float:
    """Return how many times the width of the usual range a value lies from its middle."""
    return abs(value - (usual.low + usual.high) / 2) / max(usual.high - usual.low, 1e-9)


def _told(look: dict[str, float], name: str, ranges: Looks) -> str:
    usual = ranges.ranges[name]
    return f"{SHORT[name]} {look[name]:.3g}, usually {usual.low:.3g} to {usual.high:.3g}"
