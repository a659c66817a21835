"""Two runs side by side as one page: figures, what the difference shows, changed parameters, changed data and code."""

from collections.abc import Iterator
from typing import Any

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.params import flat
from biopsy.core.protocol import PUBLIC
from biopsy.core.text import count
from biopsy.evaluation.comparison import Difference
from biopsy.evaluation.outcome import Undefined
from biopsy.evaluation.report import charts, words
from biopsy.evaluation.report.card import FIGURES
from biopsy.evaluation.report.template import template
from biopsy.experiments.compare import OUT_OF_FOLD, Compared, pair_models, part_of, positive_classes
from biopsy.experiments.kinds import with_kind
from biopsy.experiments.revisions import Revision
from biopsy.networks.model_file import NOTICE

MAIN = "macro_f1"
SHOWN = {key: name for key, (name, _) in FIGURES.items()}
LEFT_OUT = ("metrics/", "plots/", "data/predictions/")  # outcomes, which differ wherever anything does
KINDS = {"data/": "data", "models/": "models", "biopsy/": "code", "stages/": "code"}


def side_by_side(first: Revision, second: Revision) -> tuple[str, list[str]]:
    """Write a page on two runs.

    Parameters
    ----------
    first, second
        The question is whether the second is better.

    Returns
    -------
    tuple
        HTML that asks for no other file, and the verdict on each task and protocol, a line each.

    Raises
    ------
    ParamsError
        Both are one commit.
    DataError
        One of them is of no finished run: it has no figures of any model.
    """
    if first.commit == second.commit:
        raise ParamsError(f"{first.name} and {second.name} are one and the same run. Name another one.")
    sides = (first, second)
    listed = sorted(dict.fromkeys([*second.models, *first.models]), key=lambda model: _leaks(model[1]))
    models = [_model(sides, model) for model in listed]
    for i, side in enumerate(sides):
        if not any(model["sides"][i] for model in models):
            raise DataError(next((m["problems"][side.name] for m in models), f"{side.name} names no task or protocol."))
    context = {
        "notice": NOTICE,
        "synthetic": words.SYNTHETIC if any(d["synthetic"] for m in models for d in m["sides"] if d) else None,
        "names": [side.name for side in sides],
        "about": [side.about for side in sides],
        "models": models,
        "params": list(_params(first, second)),
        "files": list(_files(first, second)),
    }
    page = template("compare.html.j2", autoescape=True).render(context)
    return page, [f"{model['title']}: {model['says'][0]}" for model in models]


def _model(sides: tuple[Revision, Revision], model: tuple[str, str]) -> dict[str, Any]:
    """Gather what is known of one task and protocol on both sides."""
    found: list[dict[str, Any] | None] = []
    problems = {}
    for side in sides:
        try:
            if model not in side.models:
                raise DataError(f"{side.name} has no {'-'.join(model)} among its tasks and protocols.")
            found.append(side.details(*model))
        except DataError as error:
            found.append(None)
            problems[side.name] = str(error)
    says, differences = list(problems.values()), dict[str, Difference | Undefined]()
    if not problems:
        says, differences = _differences(sides, model)
    if _leaks(model[1]):
        says.append(
            "Training and test can share patients in this protocol, so all its figures are too high for new ones."
        )
    return {
        "title": f"{model[0]}, protocol {with_kind(model[1])}",
        "id": "-".join(model),
        "problems": problems,
        "sides": found,
        "says": says,
        "rows": list(_rows(found, differences)),
        "counts": [count(d["images"], "test image") + _cases(d) if d else "-" for d in found],
    }


def _leaks(protocol: str) -> bool:
    """Tell whether images of one patient can be in both training and test, by the protocol's name."""
    return protocol.partition("-")[0] in ("image", *PUBLIC)


def _cases(details: dict[str, Any]) -> str:
    return "" if details.get("cases") is None else f" of {count(details['cases'], 'case')}"


def _differences(
    sides: tuple[Revision, Revision], model: tuple[str, str]
) -> tuple[list[str], dict[str, Difference | Undefined]]:
    """Say what validation and test show, and give the differences on the test part; of folds there is one part."""
    says, differences = [], dict[str, Difference | Undefined]()
    for test in (False, True):
        part = part_of(model[1], test)
        try:
            pair, equal = pair_models([sides], model, test)
        except DataError as error:
            says.append(f"The {part} figures cannot be compared: {error}")
            continue
        differences = pair.differences(positive_classes(sides, model[0], pair))
        counts = len(pair.truth), len(set(pair.cases.tolist()))
        shown = Compared(*model, part, *counts, SHOWN[MAIN], found=differences[MAIN], areas=None, equal=equal)
        says.append(f"{part.capitalize()}, {counts[0]:,} images of {count(counts[1], 'case')}: {shown.verdict}")
        if part == OUT_OF_FOLD:
            return says, differences
        differences = differences if test else {}
    return says, differences


def _rows(
    found: list[dict[str, Any] | None], differences: dict[str, Difference | Undefined]
) -> Iterator[dict[str, Any]]:
    """Yield a row a figure: value, interval and picture of either side, and the paired difference."""
    for key, name in SHOWN.items():
        if not any(details and key in details["image_level"] for details in found):
            continue
        cells = []
        for details in found:
            value = details["image_level"].get(key) if details else None
            ends = details["intervals"].get(key) if details else None
            alt = f"{name} {words.number(value)}, 95 % interval {words.interval(ends)}"
            low, high = ends or (None, None)
            bar = charts.interval_bar(value, low, high, alt)
            cells.append({"value": value, "ends": ends, "bar": bar})
        difference = differences.get(key)
        yield {
            "name": name,
            "cells": cells,
            "difference": difference if isinstance(difference, Difference) else None,
            "why": difference.reason if isinstance(difference, Undefined) else None,
        }


def _params(first: Revision, second: Revision) -> Iterator[tuple[str, str, str]]:
    """Yield the parameters that differ, with both values."""
    one, other = (dict(flat(side.params)) for side in (first, second))
    for key in dict.fromkeys([*one, *other]):
        if key not in one or key not in other or one[key] != other[key]:
            before, after = (words.short(side[key]) if key in side else "-" for side in (one, other))
            yield key, before, after


def _files(first: Revision, second: Revision) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, path and both MD5s of each file that two dvc.locks record otherwise."""
    one, other = map(_recorded, (first, second))
    for path in sorted({*one, *other}):
        if one.get(path) != other.get(path):
            kind = next((kind for start, kind in KINDS.items() if path.startswith(start)), "other")
            yield kind, path, one.get(path, "-"), other.get(path, "-")


def _recorded(side: Revision) -> dict[str, str]:
    """Name the MD5 of each path that a dvc.lock records, without outcomes."""
    return {path: md5 for path, md5 in side.recorded.items() if not path.startswith(LEFT_OUT) and path != "metrics"}
