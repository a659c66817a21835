"""What a split holds, what it leaks, and which classes it can test; and the error for a split that leaks."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.protocol import PARTS, PUBLIC, parse_protocol
from biopsy.core.text import count, id_key
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.split.folds import parts_of

UNITS = {"slides": "slide", "cases": "case"}
PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))


class LeakError(DataError):
    """A group on two sides, or an image in two parts: a defect of ours, not the user's mistake."""


def check_tasks(labels: pd.DataFrame, tasks: Sequence[str], scheme: LabelScheme) -> None:
    """Reject tasks that cannot be learnt from these labels.

    Parameters
    ----------
    labels : DataFrame of n rows
        With `image_id` and a text column per task, empty where unknown.
    tasks
        `params.tasks`.
    scheme
        That of the labels.

    Raises
    ------
    DataError
        A task that the scheme lacks, a label that it does not know, an image without a label of the task, or
        all images of one class.
    """
    if labels.empty:
        raise DataError(
            "the table of labels is empty: no image is left to split. See metrics/ingest.json for what went."
        )
    for task in scheme.columns:
        strange = set(labels[task]) - {"", *scheme[task].names}
        if strange:
            raise DataError(
                f"the table of labels has {some(sorted(strange), 3)} as {task}, which models/labels.json does not "
                "know: one of the two was edited. Run `dvc repro --force impute`."
            )
    for task in tasks:
        if task not in scheme.columns:
            raise DataError(f"the labels were made for {some(scheme.columns)}, without '{task}'. Run `dvc repro`.")
        unknown = labels.loc[labels[task] == "", "image_id"]
        if len(unknown):
            raise DataError(
                f"{len(unknown)} of {len(labels)} images have no label for task '{task}' ({some(unknown, 3)}). Name "
                f"the CSV's column in labels.tasks.{task}.column, or take '{task}' out of `tasks`."
            )
        if labels[task].nunique() < 2:
            only = labels[task].iloc[0]
            raise DataError(
                f"all {len(labels)} images are '{only}': task '{task}' needs two classes. Add images of another class "
                f"to the CSV, or take '{task}' out of `tasks`."
            )


def check_split(labels: pd.DataFrame, split: pd.DataFrame, protocol: str) -> None:
    """Reject a split that breaks its protocol's promise; not an `assert`, so that `python -O` checks it too.

    Parameters
    ----------
    labels, split : DataFrame of n rows
        The labels; and `image_id` and `part`, or the folds of a cross-validation, each of which is checked.
    protocol
        The protocol's name.

    Raises
    ------
    DataError
        A part is empty.
    LeakError
        An image is not in exactly one part, or a group (or equal pixels) is on two sides of a group protocol.
    """
    if "part" not in split:
        for fold in parse_protocol(protocol).folds:
            check_split(labels, parts_of(split, fold), protocol)
        return
    once = split["image_id"].is_unique and set(split["image_id"]) == set(labels["image_id"])
    if not once or not split["part"].isin(PARTS).all():
        raise LeakError(
            f"protocol '{protocol}' did not put every image into exactly one part. Please report this defect."
        )
    empty = [part for part in PARTS if not (split["part"] == part).any()]
    if empty:
        whose = "the fold table" if protocol == "fold1" else "that test set, which is of BreakHis"
        ways = "name fewer folds" if parse_protocol(protocol).k else f"change split.{empty[0]}"
        ways = f"Use more images or slides, {ways}"
        if protocol in PUBLIC and "test" in empty:
            ways = f"None of these images is a test image of {whose}. Add some"
        raise DataError(
            f"protocol '{protocol}' leaves no image for {some(empty)}. {ways}, or take '{protocol}' out of `protocols`."
        )
    table = _joined(labels, split)
    for unit in _promised(protocol):
        shared = {value for pair in PAIRS for value in _shared(table, unit, *pair)}
        if shared:
            raise LeakError(
                f"protocol '{protocol}' put {len(shared)} {unit}(s) on two sides ({some(sorted(shared), 3)}). "
                f"Please report this defect."
            )


def summarise(labels: pd.DataFrame, split: pd.DataFrame, protocol: str, scheme: LabelScheme) -> dict[str, Any]:
    """Count what each part holds and what the parts share.

    Parameters
    ----------
    labels, split : DataFrame of n rows
    protocol
        The protocol's name.
    scheme
        That of the labels.

    Returns
    -------
    dict
        `says` (the leak in a sentence), `parts`, `shared` (slides, cases and pixels on two sides), `test_images_seen`
        (test images whose slide, case or pixels are in train), `classes` of each task (see `_class_entry`), and
        `not_estimable` (class: reason). Unknown slides and cases are null. For a cross-validation, `parts` are those of
        each fold, shared items are summed over the folds of the first repeat, and a class is estimable if a fold tests
        an image of it and trains on others.
    """
    if "part" not in split:
        return _summarise_folds(labels, split, protocol, scheme)
    table = _joined(labels, split)
    units = {name: unit for name, unit in {**UNITS, "pixels": "pixels_sha256"}.items() if (table[unit] != "").any()}
    seen = {name: len(_seen(table, unit)) if (unit := units.get(name)) else None for name in (*UNITS, "pixels")}
    unknown = dict.fromkeys(set(UNITS) - set(units))
    entries = {
        name: {
            label: _class_entry(rows, task.words[str(label)], protocol)
            for label, rows in table[table[name] != ""].groupby(name)
        }
        for name, task in scheme.tasks.items()
    }
    return {
        "says": leak_sentence(table, seen)
        + ("" if parse_protocol(protocol).unit == "image" else _of_validation(table)),
        "parts": {part: _sizes(table[table["part"] == part]) | unknown for part in PARTS},
        "shared": {
            name: {f"{a}_{b}": len(_shared(table, unit, a, b)) for a, b in PAIRS} for name, unit in units.items()
        },
        "test_images_seen": seen,
        "classes": entries,
        "not_estimable": {
            name: entry["reason"] for task in entries.values() for name, entry in task.items() if not entry["estimable"]
        },
    }


def _summarise_folds(labels: pd.DataFrame, split: pd.DataFrame, protocol: str, scheme: LabelScheme) -> dict[str, Any]:
    """Sum up the folds: what each holds, what they share, and which classes no fold both trains and tests."""
    found = parse_protocol(protocol)
    each = {fold.name: summarise(labels, parts_of(split, fold), protocol, scheme) for fold in found.folds}
    first = list(each.values())[: found.k]
    classes: dict[str, Any] = {}
    for task, entries in first[0]["classes"].items():
        classes[task] = {}
        for name in entries:
            rows = [entry["classes"][task][name] for entry in first]
            sizes = {unit: sum(row["test"][unit] for row in rows) for unit in ("images", *UNITS)}
            tested = sum(1 for row in rows if row["test"]["images"] and row["train"]["images"])
            classes[task][name] = {"estimable": tested > 0, **sizes, "folds": tested}
    words = {name: task.words[name] for task in scheme.tasks.values() for name in task.names}
    seen = _seen_in_folds(first)
    return {
        "says": f"{_sentence(len(labels), seen)} (each image tested by one of {len(first)} folds)",
        "parts": {name: entry["parts"] for name, entry in each.items()},
        "shared": {
            unit: {pair: sum(entry["shared"][unit][pair] for entry in first) for pair in pairs}
            for unit, pairs in first[0]["shared"].items()
        },
        "test_images_seen": seen,
        "classes": classes,
        "not_estimable": {
            name: f"{words[name]} is in one fold alone, so that no model of it is tested"
            for entries in classes.values()
            for name, entry in entries.items()
            if not entry["estimable"]
        },
    }


def _seen_in_folds(folds: list[dict[str, Any]]) -> dict[str, int | None]:
    """Sum over folds the test images whose slide, case or pixels training has seen; null where unknown."""
    counts = {name: [fold["test_images_seen"][name] for fold in folds] for name in folds[0]["test_images_seen"]}
    return {name: None if None in found else sum(found) for name, found in counts.items()}


def leak_sentence(table: pd.DataFrame, seen: dict[str, int | None]) -> str:
    """Say how many test images come from slides or cases seen in training, whichever are more."""
    return _sentence(int((table["part"] == "test").sum()), seen)


def _of_validation(table: pd.DataFrame) -> str:
    """Count the test images of cases, or else slides, that validation alone has seen, in a clause; empty for none.

    The model is chosen and calibrated by validation, and a probe learns from it.
    """
    for name, unit in reversed(UNITS.items()):
        seen = set(table.loc[table["part"] == "val", unit]) - set(table.loc[table["part"] == "train", unit]) - {""}
        if found := int(((table["part"] == "test") & table[unit].isin(seen)).sum()):
            return f", {found} from {name} seen in validation"
    return ""


def _sentence(tested: int, seen: dict[str, int | None]) -> str:
    known = [(name, n) for name, n in seen.items() if name in UNITS and n is not None]
    pixels = seen["pixels"]
    twins = f"; {count(pixels, 'test image')} with the pixels of a training image" if pixels else ""
    if not known:
        return f"slides and cases are unknown, so leaks cannot be checked{twins}"
    name, n = max(known, key=lambda item: item[1])
    return f"{n} of {tested} test images come from {name} seen in training{twins}"


def to_json(summary: dict[str, Any]) -> str:
    """Write the summary as JSON with its innermost objects on one line each, like a table."""
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    short = re.compile(r"\{\n\s+([^{}]{,120}?)\n\s+\}")
    return short.sub(lambda found: "{" + re.sub(r"\n\s+", " ", found[1]) + "}", text) + "\n"


def _promised(protocol: str) -> list[str]:
    """List the columns whose values must not be on two sides."""
    unit = parse_protocol(protocol).unit
    return {"slide": ["slide", "pixels_sha256"], "case": ["case", "slide", "pixels_sha256"]}.get(unit, [])


def _joined(labels: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Join each image with its part; ids become their keys, so that no spelling hides a case on two sides."""
    table = labels.merge(split, on="image_id")
    return table.assign(**{unit: table[unit].map(id_key) for unit in UNITS.values()})


def _shared(table: pd.DataFrame, unit: str, one: str, other: str) -> set[str]:
    values = [set(table.loc[table["part"] == part, unit]) - {""} for part in (one, other)]
    return values[0] & values[1]


def _seen(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return the test images whose `unit` is in train."""
    return table[(table["part"] == "test") & table[unit].isin(_shared(table, unit, "train", "test"))]


def _sizes(rows: pd.DataFrame) -> dict[str, int]:
    return {"images": len(rows)} | {name: len(set(rows[unit]) - {""}) for name, unit in UNITS.items()}


def _class_entry(rows: pd.DataFrame, name: str, protocol: str) -> dict[str, Any]:
    """Count one class by part; `estimable` when every part holds some of it, else with the reason."""
    sizes = {part: _sizes(rows[rows["part"] == part]) for part in PARTS}
    missing = [part for part in PARTS if not sizes[part]["images"]]
    entry: dict[str, Any] = {"estimable": not missing}
    if missing:
        unit = "case" if protocol in PUBLIC else parse_protocol(protocol).unit.replace("given", "image")
        found = len(rows) if unit == "image" else int(np.unique(rows[unit]).size)
        says = f"{name} has {count(found, unit)}"
        too_few = found < len(PARTS) and protocol not in PUBLIC
        entry["reason"] = f"{says}; 3 parts need 3" if too_few else f"{says}, none in {some(missing)}"
    return entry | sizes
