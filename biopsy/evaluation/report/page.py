"""Put the report together: what was found, as plain values for the template `report.html.j2`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.metrics import confusion_matrix

from biopsy.core.errors import BiopsyError
from biopsy.core.files import read_csv
from biopsy.core.layout import LABELS, ORIGINALS
from biopsy.core.params import flat
from biopsy.evaluation.calibration import reliability, uncalibrated
from biopsy.evaluation.outcome import Undefined
from biopsy.evaluation.predictions import curve_table
from biopsy.evaluation.report import charts, choices, words
from biopsy.evaluation.report.audit import audits
from biopsy.evaluation.report.checklists import checklists
from biopsy.evaluation.report.conditions import by_conditions
from biopsy.evaluation.report.copies import copies
from biopsy.evaluation.report.embedding import describe_features
from biopsy.evaluation.report.flow import data_flow, split_row
from biopsy.evaluation.report.groups import MOST_SLIDES, by_group, by_slide, error_pictures, say_slides
from biopsy.evaluation.report.pairs import confused_pairs
from biopsy.evaluation.report.results import Result, Run
from biopsy.evaluation.report.sets import prediction_sets
from biopsy.evaluation.report.template import template
from biopsy.evaluation.roc_band import roc_band
from biopsy.networks.model_file import NOTICE

SHARPNESS = {"ece": "ECE", "brier": "Brier score", "log_loss": "log loss"}
SHEETS = 10  # results whose errors are shown as pictures, so that the file stays small


def render(run: Run) -> str:
    """Write the report.

    Returns
    -------
    str
        HTML that asks for no other file. A result that is missing or broken is named in a sentence.
    """
    params, root, results, splits, labels = run.params, run.root, run.results, run.splits, read_labels(run.root)
    order = sorted(results, key=lambda r: (params.tasks.index(r.job.task), words.trust(r, splits)))
    by_task = {task: [r for r in order if r.job.task == task] for task in params.tasks}
    heads = {task: words.headline(found, splits) for task, found in by_task.items() if found}
    context = {
        "notice": NOTICE,
        "synthetic": words.SYNTHETIC if any(r.details["synthetic"] for r in results) else None,
        "verdicts": [
            {"task": task, "words": words.named(head.scheme.words), "says": words.verdict(head, splits)}
            for task, head in heads.items()
        ],
        "problems": run.problems,
        "flow": data_flow(run),
        "splits": [split_row(name, splits.get(name, {})) for name in params.protocols],
        "copies": copies(labels, root, params.protocols, params.ingest.max_pixels),
        "rows": [overview(r, splits) for r in order],
        "results": [
            section(r, labels, root / ORIGINALS, params.ingest.max_pixels, run.scheme.columns, i < SHEETS)
            | {"head": r is heads[r.job.task], "says": words.verdict(r, splits, best=False)}
            for i, r in enumerate(order)
        ],
        "features": [
            found | {"pairs": confused_pairs(head, labels, run.ingest)}
            for head, found in zip(
                heads.values(),
                describe_features(heads.values(), labels, params.model.trainable != "none"),
                strict=True,
            )
        ],
        "audits": audits(heads.values(), labels, root / ORIGINALS, params.ingest.max_pixels),
        "params": [
            (key, words.short(value))
            for key, value in flat(params.model_dump(mode="json", exclude={"tune", "experiment"}), whole=("tasks",))
        ],
        "limits": words.limits(order, splits),
        "sensitivity": params.evaluate.sensitivity,
        "chosen": words.chosen_by_validation(params),
        "checklists": checklists(run, order),
    }
    return template("report.html.j2", autoescape=True).render(context)


def overview(result: Result, splits: Mapping[str, Any]) -> dict[str, Any]:
    """Pick one line of the table that compares protocols, and validation with test."""
    details, ends = result.details, result.details["intervals"]["macro_f1"] or (None, None)
    value, (low, high) = details["image_level"]["macro_f1"], ends
    alt = f"macro-F1 {words.number(value)}, 95 % interval {words.interval(details['intervals']['macro_f1'])}"
    return {
        "task": result.job.task,
        "protocol": result.job.protocol,
        "leak": words.leak(splits.get(result.job.protocol, {})),
        "details": details,
        "bar": charts.interval_bar(value, low, high, alt),
        "val": result.val,
        "train": result.train,
    }


def section(
    result: Result, labels: pd.DataFrame, images: Path, max_pixels: int, tasks: Iterable[str], pictures: bool
) -> dict[str, Any]:
    """Gather everything about one result.

    Parameters
    ----------
    result
        Figures and answers.
    labels
        `image_id`, `path` below `images`, and a column for each of `tasks` that is known.
    images, max_pixels
        The folder of the originals, of which larger ones are not opened.
    tasks
        Those of the label scheme.
    pictures
        Whether errors are shown as pictures.
    """
    outcome, names, scheme = result.test.outcome, list(result.test.outcome.classes), result.scheme
    colours = scheme.colours
    matrix = confusion_matrix(outcome.truth, outcome.predicted, labels=range(len(names)))
    after = reliability(outcome, result.test.cases)
    plain = uncalibrated(outcome, result.test.temperatures)
    before = reliability(plain, result.test.cases) if result.calibrated else None
    stated = f"probability of {names[1]}" if len(names) == 2 else "probability of the predicted class"
    curves = curve_table(outcome, "roc")
    drawn = [name for name in names if name in set(curves["class"])]
    band = roc_band(outcome, result.test.cases)
    paths = dict(zip(labels["image_id"], labels["path"], strict=True)) if len(labels) else {}
    errors = error_pictures(result.test, paths if pictures else {}, images, max_pixels)
    slides = by_slide(result.test)
    return {
        "title": result.title,
        "id": result.job.name,
        "details": result.details,
        "names": names,
        "words": scheme.words,
        "positive": scheme.positive,
        "matrix": [[int(n) for n in row] for row in matrix],
        "roc": charts.roc_chart(curves, colours, f"ROC curves of {result.title}", band) if drawn else None,
        "roc_band": band.reason if isinstance(band, Undefined) else None,
        "legend": [
            (name, charts.swatch(colours[name], i), result.details["per_class"][name]["roc_auc"])
            for i, name in enumerate(drawn)
        ],
        "reliability": charts.reliability_chart(before, after, stated, f"reliability diagram of {result.title}"),
        "bins": after,
        "stated": stated,
        "changed": result.calibrated,
        "worse": [name for key, name in SHARPNESS.items() if _rose(result.details["calibration"], key)],
        "decision": choices.decision(result.details, result.title),
        "abstention": choices.abstention(result.details, result.title) if "abstention" in result.details else None,
        "sets": prediction_sets(result.details) if "sets" in result.details else None,
        "groups": list(_groups(result, labels, tasks)),
        "conditions": list(by_conditions(result)),
        "slides": slides[:MOST_SLIDES],
        "more_slides": len(slides) - MOST_SLIDES,
        "slides_say": say_slides(slides),
        "errors": errors,
        "wrong": int((outcome.predicted != outcome.truth).sum()),
        "pictures": pictures,
    }


def _groups(result: Result, labels: pd.DataFrame, tasks: Iterable[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a name and the rows of each kind of group."""
    rows = result.test.rows
    yield "class", by_group(result.test, rows["truth"])
    for task in tasks:
        if task in labels and task != result.job.task:
            known = rows["image_id"].map(dict(zip(labels["image_id"], labels[task], strict=True))).fillna("")
            yield f"class of task {task}", by_group(result.test, known)
    times = rows["magnification"].where(rows["magnification"] == "", rows["magnification"] + "X")
    if (times != "").any():
        yield "magnification", by_group(result.test, times)


def _rose(calibration: Mapping[str, Any], key: str) -> bool:
    """Say whether the temperature raised an error of the probabilities, in the decimals that are shown."""
    before, after = (calibration[when][key] for when in ("before", "after"))
    return round(after or 0, 3) > round(before or 0, 3)


def read_labels(root: Path) -> pd.DataFrame:
    """Read the table of labels; an empty one where it is missing, since only names and pictures come from it."""
    try:
        return read_csv(root / LABELS, ["image_id", "path"])
    except BiopsyError:
        return pd.DataFrame({"image_id": [], "path": []})
