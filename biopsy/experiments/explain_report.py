"""Where the models look, for the printed report: of each class the worst error and a typical image.

A section of its own, since it needs the models, which the stage `report` never loads, and some 200 answers an image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from biopsy.core.errors import BiopsyError, SourceError
from biopsy.core.job import Job
from biopsy.core.layout import ORIGINALS
from biopsy.core.protocol import parse_protocol
from biopsy.evaluation.predictions import Answers
from biopsy.evaluation.report.groups import picture_uri
from biopsy.evaluation.report.page import read_labels
from biopsy.evaluation.report.results import Result, Run
from biopsy.evaluation.report.template import template
from biopsy.evaluation.report.words import headline
from biopsy.images.decode import read_rgb
from biopsy.serving.explain.image import (
    METHODS,
    Explanation,
    Method,
    explain,
    lay_on,
    methods_of,
    overlay,
    paint,
    peak_of,
    scale_colours,
    scale_of,
    shrink,
)
from biopsy.serving.model import Model

MOST = 24  # images of one task, so that the file stays small
NAMES: dict[Method, str] = {"occlusion": "Occlusion", "gradcam": "Grad-CAM"}  # what is shown, of what a model allows


@dataclass(frozen=True)
class Case:
    """An image to explain: 'worst error' or 'typical', its truth, slide and file, and the model that answered it."""

    kind: str
    truth: str
    slide: str
    image_id: str
    file: Path
    model: Path


def explain_run(run: Run, load: Callable[[Path], Model] = Model) -> str:
    """Explain the result of each task that says most about the next patient, all maps of a method on one colour scale.

    Parameters
    ----------
    run
        A project whose models and images are here.
    load
        From a model's folder to the model.

    Returns
    -------
    str
        HTML to put into the report. A model or an image that cannot be used is named in a sentence.
    """
    results = [[r for r in run.results if r.job.task == task] for task in run.params.tasks]
    heads = [headline(found, run.splits) for found in results if found]
    labels = read_labels(run.root)
    paths = dict(zip(labels["image_id"], labels["path"], strict=True))
    found: list[tuple[Result, list[tuple[Case, list[Explanation]]], list[str]]] = []
    for result in heads:
        cases = choose(result, paths, run.root)
        explained, problems = _explain(cases[:MOST], result, load)
        if len(cases) > MOST:
            problems.append(
                f"Shown are {MOST} of {len(cases)} images, in the order of the classes: this file stays small."
            )
        found.append((result, explained, problems))
    every = [e for _, explained, _ in found for _, of_case in explained for e in of_case]
    limits = {method: scale_of(maps) for method in NAMES if (maps := [e for e in every if e.method == method])}
    max_pixels, resize = run.params.ingest.max_pixels, run.resize
    tasks = [
        {
            "title": result.title,
            "id": result.job.name,
            "problems": problems,
            "shown": [_shown(case, maps, limits, max_pixels, resize) for case, maps in explained],
        }
        for result, explained, problems in found
    ]
    page = template("explained.html.j2", autoescape=True)
    scales = [
        {"name": NAMES[method], "limit": limit, "words": METHODS[method], "colours": scale_colours(limit)}
        for method, limit in limits.items()
    ]
    return page.render(tasks=tasks, scales=scales)


def choose(result: Result, paths: dict[str, str], root: Path) -> list[Case]:
    """Choose the images of one result.

    For each class: the wrong answer with the highest probability, and the right answer with the median probability.
    Ties are decided by name.
    """
    test, chosen = result.test, []
    for row, kind in chosen_rows(test):
        about = test.rows.iloc[row]
        folds = {fold.name: fold for fold in parse_protocol(result.job.protocol).folds}
        job = Job(result.job.task, result.job.protocol, root=root, fold=folds.get(about.get("fold", "")))
        name = str(about["image_id"])
        file = root / ORIGINALS / paths.get(name, name)
        truth = result.scheme.words[test.outcome.classes[test.outcome.truth[row]]]
        chosen.append(Case(kind, truth, str(about["slide"]) or "not known", name, file, job.model))
    return chosen


def chosen_rows(test: Answers) -> Iterator[tuple[int, str]]:
    """Yield the row of the worst error and of a typical image of each class, where there is one."""
    outcome, ids = test.outcome, test.rows["image_id"].to_numpy(str)
    said = outcome.probabilities[np.arange(len(ids)), outcome.predicted]
    order = np.lexsort((ids, -said))
    for index in range(len(outcome.classes)):
        own = [i for i in order if outcome.truth[i] == index]
        wrong = [i for i in own if outcome.predicted[i] != index]
        right = [i for i in own if outcome.predicted[i] == index]
        if wrong:
            yield int(wrong[0]), "worst error"
        if right:
            yield int(right[len(right) // 2]), "typical"


def _explain(
    cases: list[Case], result: Result, load: Callable[[Path], Model]
) -> tuple[list[tuple[Case, list[Explanation]]], list[str]]:
    """Explain the images one by one, by each method; what cannot be explained becomes a sentence."""
    models, found, problems = dict[Path, Model](), [], list[str]()
    known = {model["sha256"] for model in result.details["models"]}
    for case in tqdm(cases, f"explain {result.job.name}", unit="image", delay=2):
        try:
            if case.model not in models:
                model = load(case.model)
                if model.card.model_sha256 not in known:
                    raise SourceError(f"{case.model} is not the model of this report. Run `dvc checkout {case.model}`.")
                models[case.model] = model
            model = models[case.model]
            methods = [method for method in NAMES if method in methods_of(model)]
            found.append((case, [explain(model, case.file, method) for method in methods]))
        except BiopsyError as error:
            problems.append(str(error))
    return found, list(dict.fromkeys(problems))


def _shown(
    case: Case, maps: list[Explanation], limits: dict[Method, float], max_pixels: int, resize: Any
) -> dict[str, Any]:
    """Draw an image and its maps, each laid on a grey copy, and say where they peak."""
    image, drawn = read_rgb(case.file, max_pixels), []
    height, width = image.shape[:2]
    for e in maps:
        laid = lay_on(e.drops, height, width, resize)
        image, colours = shrink(image, laid), paint(laid, limits[e.method])
        across, down, most = peak_of(laid)
        peak = f"{NAMES[e.method]}: most, {most:.2f}, at {across:.0%} from the left and {down:.0%} from the top."
        drawn.append(
            {
                "name": NAMES[e.method],
                "explanation": e,
                "picture": picture_uri(Image.fromarray(overlay(image, colours))),
                "says": f"{NAMES[e.method]}: flat, no region stands out." if e.flat else peak,
            }
        )
    return {"case": case, "explanation": maps[0], "picture": picture_uri(Image.fromarray(image)), "maps": drawn}
