"""What the network sees: maps of its features by type, slide and stain, and whether it knows the type or the slide."""

from collections.abc import Iterable, Mapping
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from biopsy.core.text import count
from biopsy.evaluation.appearance import features_of
from biopsy.evaluation.outcome import Names
from biopsy.evaluation.report.conditions import stain_clusters
from biopsy.evaluation.report.results import Result
from biopsy.evaluation.report.scatter import group_map, legend, star_map
from biopsy.evaluation.report.words import interval
from biopsy.evaluation.shortcut import UNKNOWN, measure_shortcut

FEWEST = 10  # images for a map
FEWEST_TSNE = 50  # images for t-SNE, whose neighbourhoods are of about 30
PERPLEXITY = 30.0
STAINS = ("#009E73", "#CC79A7", "#555555")
QUESTIONS = {
    "slide": "the same slide, of all other images",
    "type": "the same class, of all other images",
    "type_elsewhere": "the same class, of images of other cases",
}


def describe_features(results: Iterable[Result], labels: pd.DataFrame, trained: bool) -> list[dict[str, Any]]:
    """Draw the maps of each result and measure the shortcut.

    Parameters
    ----------
    results
        With `appearance`.
    labels
        `image_id`, `slide`, `case` and the task's column.
    trained
        Whether training changed the layers that make the features.

    Returns
    -------
    list of dict
        `title`, `id`; `reason` where there are no features; else `rows` of the table, `says`, sentences, and `maps`,
        each with `name`, `chart` and `legend`.
    """
    # One thread for the sums of each: those of several differ in their last digits, and t-SNE magnifies that.
    with threadpool_limits(1), ThreadPool(2) as pool:
        return pool.map(partial(_describe, labels=labels, trained=trained), results)


def _describe(result: Result, labels: pd.DataFrame, trained: bool) -> dict[str, Any]:
    about = {"title": result.title, "id": f"features-{result.job.name}"}
    task, table = result.job.task, result.appearance
    known = [name for name in ("slide", "case", task) if name in labels]
    if table is None or len(known) < 3 or not features_of(table).shape[1]:
        return {**about, "reason": "the features of its images are not known; `dvc repro` measures them again"}
    rows = table.iloc[np.flatnonzero(np.isfinite(features_of(table)).all(1))].reset_index(drop=True)
    if len(rows) < FEWEST:
        return {**about, "reason": f"{count(len(rows), 'image')} are too few for a map"}
    facts = labels.set_index("image_id").reindex(rows["image_id"]).fillna("")
    types, slides, cases = (facts[name].to_numpy(str) for name in (task, "slide", "case"))
    asked = (rows["part"] == "test").to_numpy() if trained else np.ones(len(rows), bool)
    features = features_of(rows)
    if not features.std():
        return {**about, "reason": "the network sees the same in all images, or its features are not numbers"}
    found = measure_shortcut(features, types, slides, cases, asked)
    groups = {"class": types, "slide": slides, "stain": stain_clusters(rows).to_numpy(str)}
    return {
        **about,
        "rows": [{"question": words, **found[key]} for key, words in QUESTIONS.items()],
        "says": say_shortcut(found),
        "asked": f"{count(int(asked.sum()), 'test image')}, from which it has not learnt" if trained else "all images",
        "learnt": int((rows["part"] == "train").sum()) if trained else 0,
        "images": len(rows),
        "maps": [one for way, points in _layouts(features) for one in _maps(result, groups, points, way)],
    }


def say_shortcut(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what the nearest image tells, first of the slide, then of the type without its own case."""
    slide, near, far = (found[key] for key in QUESTIONS)
    says = []
    if slide["of"]:
        says.append(
            f"The nearest image is of the same slide in {100 * slide['share']:.0f} % of images; of a random image it "
            f"would be {100 * slide['random']:.0f} %."
        )
    if not far["of"]:
        why = "Cases or slides are not known" if far["few"] == UNKNOWN else "No class has images of two cases"
        return [*says, f"{why}, so whether the features know the class cannot be told."]
    says.append(
        f"It is of the same class in {100 * near['share']:.0f} %, but without the images of its own case in "
        f"{100 * far['share']:.0f} %; of a random image it would be {100 * far['random']:.0f} %."
    )
    if "low" not in far:
        return [*says, f"Whether that is more than chance cannot be told: {far['few']}."]
    ends = interval([far["low"], far["high"]])
    if far["low"] <= far["random"]:
        verdict = (
            "not shown to be better than chance",
            "images may be near because of their slide, not of their class",
        )
    else:
        verdict = "better than chance", "the features know something of the class beyond the slide"
    return [*says, f"That is {verdict[0]} (95 % interval {ends}): {verdict[1]}."]


def _layouts(features: NDArray[np.float64]) -> list[tuple[str, NDArray[np.float64]]]:
    """Place images on a plane: by the first two components, and by t-SNE where there are enough."""
    found = [("PCA", features[:, :2])]
    if len(features) >= FEWEST_TSNE:
        placed = TSNE(perplexity=min(PERPLEXITY, (len(features) - 1) / 3), random_state=0).fit_transform(features)
        found.append(("t-SNE", placed.astype(float)))
    return found


def _maps(result: Result, groups: dict[str, Names], points: NDArray[np.float64], way: str) -> list[dict[str, Any]]:
    scheme, title = result.scheme, f"{way} map of {result.title}"
    stains = [name for name in np.unique(groups["stain"]) if name]
    colours = {
        "class": {name: scheme.colours[name] for name in scheme.names if name in set(groups["class"])},
        "stain": dict(zip(stains, STAINS, strict=False)),
    }
    maps = []
    for kind, names in groups.items():
        about = {"name": f"{way}, by {kind}", "legend": legend(colours.get(kind, {}))}
        if kind == "slide":
            maps.append({**about, "chart": star_map(points, names, f"{title}, by slide")})
        elif colours[kind]:
            maps.append({**about, "chart": group_map(points, names, colours[kind], f"{title}, by {kind}")})
    return maps
