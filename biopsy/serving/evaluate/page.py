"""The page of `biopsy evaluate`: the verdict in plain words, the images, the shift against training, the figures."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from biopsy.core.job import Job
from biopsy.core.text import count
from biopsy.evaluation.appearance import LOOKS
from biopsy.evaluation.predictions import Answers
from biopsy.evaluation.report import charts, words
from biopsy.evaluation.report.page import section
from biopsy.evaluation.report.results import Result
from biopsy.evaluation.report.template import template
from biopsy.evaluation.shift import say_shift
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.about import PROTOCOLS


class Elsewhere(Result):
    """The result on a user's own images."""

    @property
    def title(self) -> str:
        """How the page calls it."""
        return f"task {self.job.task}"


def render(card: Card, details: dict[str, Any], test: Answers, rows: pd.DataFrame) -> str:
    """Write the page.

    Parameters
    ----------
    card
        Of the model.
    details
        What stands in metrics.json.
    test
        The answers behind the figures; its rows also have the numbers of `look_at`.
    rows
        All rows of the table, also those left out.

    Returns
    -------
    str
        HTML that asks for no other file.
    """
    scheme, task = card.labels, card.labels[card.task]
    names = pd.Series([Path(path).name for path in test.rows["image_id"]])
    used = test.rows if names.duplicated().any() else test.rows.assign(image_id=names)
    test = replace(test, rows=used)
    labels = pd.DataFrame({"image_id": used["image_id"], "path": [str(Path(file).resolve()) for file in used["file"]]})
    for name in scheme.columns:
        finer = [scheme.read(name, text) or "" for text in used["text"]]
        if name != card.task and any(finer):
            labels[name] = finer
    looks = used[["image_id", *LOOKS]].assign(part="test")
    result = Elsewhere(Job(card.task, card.protocol), task, details, {}, {}, test, looks)
    shown = section(result, labels, Path(), card.preparation.max_pixels, scheme.columns, True)
    context = {
        "notice": NOTICE,
        "synthetic": "This model was trained on a synthetic sample: its answers say nothing about tissue."
        if card.synthetic
        else None,
        "card": card,
        "details": details,
        "words": words.named(task.words),
        "says": verdict(details, test),
        "flow": _flow(details, rows),
        "shift": _shift_rows(details["shift"]),
        "shift_says": say_shift(details["shift"]),
        "stain": card.preparation.stain.method if card.preparation.stain else None,
        "result": shown,
        "sensitivity": details.get("operating_point", {}).get("wanted"),
        "limits": limits(details),
    }
    return template("evaluate.html.j2", autoescape=True).render(context)


def verdict(details: Mapping[str, Any], test: Answers) -> list[str]:
    """Say what the figures mean, one sentence an item, the figure first."""
    are, n = details["cases_are"], details["images"]
    images, cases = count(n, "image"), count(details["cases"], "case")
    if are["image"] == n:  # then 'cases' are images, and a count of right ones would say the accuracy once more
        sentences = words.figure_says({**details, "cases_right": None}, f"{images} whose cases are not known")
    else:
        sentences = words.figure_says(details, f"{images} of {cases}")
    if details["seen_in_training"]:
        sentences.insert(1, too_high(details))
    if are["image"]:
        which = f"{are['image']:,} of {images} have" if are["image"] < n else "No image has"
        sentences.append(
            f"{which} {'no ' * (are['image'] < n)}case or slide, so each counts as a case of its own. If images share "
            "a patient, the intervals are too narrow: add a column 'case'."
        )
    if are["slide"]:
        sentences.append(
            f"Of {count(are['slide'], 'image')} the slide counts as the case. If slides share a patient, the "
            "intervals are too narrow: add a column 'case'."
        )
    sentences += words.lacks_says(details, test.outcome)
    area = details["intervals"].get("roc_auc")
    if area and area[0] <= 0.5:
        sentences.append("The interval of ROC-AUC reaches 0.5: these images do not show that the model beats chance.")
    sentences.append(say_shift(details["shift"]))
    return [*sentences, _own(details)]


def too_high(details: Mapping[str, Any]) -> str:
    """Say that images of the training are among those of the figure."""
    seen = f"{details['seen_in_training']:,} of {count(details['images'], 'image')}"
    return f"This figure is too high: the model was trained or validated on {seen}, pixel for pixel."


def _own(details: Mapping[str, Any]) -> str:
    """Set the figure beside that of the model's own test."""
    own = details["own_test"]
    if not own or own["test"].get("macro_f1") is None:
        return "How this model did on its own test images is not known here, so the two cannot be compared."
    test, meaning = own["test"], PROTOCOLS.get(details["protocol"].partition("-")[0], "")
    ends = [test["f1_low"], test["f1_high"]] if test.get("f1_low") is not None else None
    sure = f" (95 % interval {words.interval(ends)})" if ends else ""
    of = f"{count(own['images'], 'image')} of {count(own['cases'], 'case')}" if own.get("cases") else "it"
    note = f", where {meaning}" if meaning else ""
    return (
        f"On its own test part it had macro-F1 {words.number(test['macro_f1'])}{sure} on {of}, protocol "
        f"{details['protocol']}{note}."
    )


def limits(details: Mapping[str, Any]) -> list[str]:
    """List what the page does not show."""
    new = "the data that it learnt from are not here to compare with"
    if details["seen_in_training"] is not None:
        new = "equal pixels were looked for, but altered copies and shared patients cannot be detected"
    found = [
        "That a model helps anybody. It was compared with labels, not with pathologists, and never used in a clinic.",
        f"That these images and their patients are new to the model: {new}.",
        "How the model does at still another laboratory. These images are one set.",
        "A better threshold or calibration: both come from the model's card, and nothing was fitted to these images.",
    ]
    if details["cases"] < words.FEW_CASES:
        found.append(f"Small differences. {count(details['cases'], 'case')} cannot tell close models apart.")
    return found


def _flow(details: Mapping[str, Any], rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Say what became of each row of the table."""
    kept = rows[rows["error"] == ""]
    classes = ", ".join(f"{name}: {row['support']:,}" for name, row in details["per_class"].items())
    left = [(f"Left out: {reason}", f"{n:,}") for reason, n in details["left_out"].items()]
    return [
        ("Table", f"{details['csv']['name']}, separated by {details['csv']['separator']}s"),
        ("Rows", f"{details['rows']:,}"),
        *left,
        ("Used", f"{count(len(kept), 'image')} of {count(details['cases'], 'case')}"),
        ("Images by class", classes),
    ]


def _shift_rows(shift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Add a picture to each number."""
    rows = []
    for row in shift["numbers"].values():
        there = row["training"]
        alt = f"here {row['here']['low']:.4g} to {row['here']['high']:.4g}"
        alt += f", training {there['low']:.4g} to {there['high']:.4g}" if there else ""
        rows.append({**row, "bar": charts.range_bar(row["here"], there, alt) if there else ""})
    return rows
