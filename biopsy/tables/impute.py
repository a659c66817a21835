"""Fill the table's gaps from the file names, compare the two, and complete the label scheme."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.files import AGAIN, LISTED
from biopsy.core.layout import IMAGES
from biopsy.core.params import Params
from biopsy.core.text import alike, changed, count, first_spellings, id_key
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.names import facts_of, fill, read_names, whole_slides


class Imputed(NamedTuple):
    """The table of labelled images, the label scheme with all its classes, and the counts for metrics/impute.json."""

    labels: pd.DataFrame
    scheme: LabelScheme
    counts: dict[str, Any]


def impute(images: pd.DataFrame, params: Params, csv: Path) -> Imputed:
    """Make the table of labelled images.

    Parameters
    ----------
    images
        What `ingest` wrote: `row`, `image_id`, `path`, the CSV's facts (empty where it has none), sizes and hashes.
    params
        `labels`, `impute` and `tasks`.
    csv
        The user's CSV, as errors name it.

    Returns
    -------
    Imputed
        The table has `image_id`, `path`, a text column for each task of the scheme (a class, or empty where it is not
        known), `magnification`, `mpp`, `slide`, `case`, `width`, `height`, `pixels_sha256`; one row per image.

    Raises
    ------
    DataError
        A fact that contradicts its file name or another fact, an image without a label of a task in `tasks`, a slide in
        two cases, a column of cases with gaps.
    """
    scheme = _settle(LabelScheme.of(params.labels), images, csv)
    facts, compared = facts_of(scheme), [*scheme.columns, "magnification", "slide"]
    images = images.assign(**{task: _read(images, task, scheme) for task in scheme.columns})
    stated, names = images, read_names(images["path"], scheme)
    contradictions = _contradictions(images, names, compared)
    if contradictions and params.impute.contradiction == "error":
        raise DataError(
            f"{csv}: {len(contradictions):,} facts contradict their file names ({some(contradictions, 3)}). "
            "Correct them, or set impute.contradiction to trust_csv or trust_name."
        )
    if params.impute.contradiction == "trust_name":
        images = images.assign(**names[compared].where(names[compared] != "", images[compared]))
    else:  # where the CSV overrules the name on one task, the name does not count for the others either
        differ = [_differ(images, names, task) for task in scheme.columns]
        names.loc[pd.concat(differ, axis=1).any(axis=1), scheme.columns] = ""
    labels = fill(images, names, scheme)
    images = images.assign(case=_from_their_slides(images["case"], labels["slide"]))
    labels["case"] = images["case"].where(images["case"] != "", labels["case"])
    filled = _filled(stated, labels, facts)
    labels = _slides_and_cases(labels, images, names)
    lacking = (labels[params.tasks] == "").any(axis=1)
    if params.impute.unlabelled == "drop":
        labels, images = labels[~lacking], images[~lacking]
    _check(labels, params, scheme, csv, without_case=images["case"] == "")
    policy = params.impute.contradiction
    counts = {
        "images": len(labels),
        "slides": labels.loc[labels["slide"] != "", "slide"].nunique(),
        "cases": labels.loc[labels["case"] != "", "case"].nunique(),
        "labels": {
            name: {label: int((labels[name] == label).sum()) for label in task.names}
            for name, task in scheme.tasks.items()
        },
        "unlabelled": {
            "policy": params.impute.unlabelled,
            "dropped": int(lacking.sum()) if params.impute.unlabelled == "drop" else 0,
            "left": {name: int((labels[name] == "").sum()) for name in scheme.columns},
        },
        "filled": filled,
        "read_off_names": [column for column in facts if column not in filled],
        "contradictions": {"policy": policy, "count": len(contradictions), "listed": contradictions[:LISTED]},
        "slides_as_cases": _slides_as_cases(labels, images, names),
        "alike": {unit: _listed(alike(labels[unit], unit == "case")) for unit in ("slide", "case")},
        "changed": {column: _listed(changed(labels[column])) for column in ("slide", "case", *scheme.columns)},
        "names_without_facts": int((names == "").all(axis=1).sum()),
        "without_magnification": int((labels["magnification"] == "").sum()),
    }
    columns = ["image_id", "path", *scheme.columns, "magnification", "mpp", "slide", "case"]
    labels = labels.sort_values("image_id", ignore_index=True)
    return Imputed(labels[[*columns, "width", "height", "pixels_sha256"]], scheme, counts)


def _listed(found: list[Any]) -> dict[str, Any]:
    return {"count": len(found), "listed": found[:LISTED]}


def _settle(scheme: LabelScheme, images: pd.DataFrame, csv: Path) -> LabelScheme:
    """Complete tasks whose classes come from the CSV with those of the images that are left."""
    for name, task in scheme.tasks.items():
        if not task.classes:
            scheme = scheme.with_classes(name, images[name], f"{csv}: column '{task.column}'")
    return scheme


def _read(images: pd.DataFrame, task: str, scheme: LabelScheme) -> pd.Series:
    """Read the labels of a task, which `ingest` has checked."""
    found = images[task].map(scheme[task].read)
    for row, label in images.loc[found.isna(), ["row", task]].to_numpy():
        raise DataError(f"{IMAGES} row {row}: '{label}' is not a class of task '{task}', so it was edited. {AGAIN}")
    return found


def _filled(images: pd.DataFrame, labels: pd.DataFrame, facts: list[str]) -> dict[str, dict[str, Any]]:
    """Count and list, for every column that the CSV has, the rows whose gap was filled."""
    stated = [column for column in facts if (images[column] != "").any()]
    gaps = {column: images.loc[(images[column] == "") & (labels[column] != ""), "row"] for column in stated}
    return {column: {"count": len(rows), "rows": sorted(map(int, rows))[:LISTED]} for column, rows in gaps.items()}


def _contradictions(images: pd.DataFrame, names: pd.DataFrame, compared: list[str]) -> list[str]:
    """List facts on which the CSV and the file name differ, in row order: row, column, both values."""
    found: list[tuple[int, str]] = []
    for column in compared:
        said, named = images[column], names[column]
        differ = _differ(images, names, column)
        found += [
            (int(row), f"row {row}: {column} '{a}', file name '{b}'")
            for row, a, b in zip(images.loc[differ, "row"], said[differ], named[differ], strict=True)
        ]
    return [sentence for _, sentence in sorted(found)]


def _differ(images: pd.DataFrame, names: pd.DataFrame, column: str) -> pd.Series:
    said, named = images[column], names[column]
    return (said != "") & (named != "") & (said.map(id_key) != named.map(id_key))


def _from_their_slides(cases: pd.Series, slides: pd.Series) -> pd.Series:
    """Fill a case that the CSV leaves empty from another row of the same slide."""
    known = dict(zip(slides[cases != ""], cases[cases != ""], strict=True)) | {"": ""}
    return cases.where(cases != "", slides.map(known).fillna(""))


def _slides_and_cases(labels: pd.DataFrame, images: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Complete slide and case.

    A case that only the file name gives holds for the slide in that name; if the CSV names another slide, that slide is
    its own case. A case without slides counts as one slide.
    """
    own = (labels["slide"].map(id_key) == names["slide"].map(id_key)) | (images["case"] != "")
    labels["case"] = first_spellings(labels["case"].where(own, labels["slide"]))
    labels["slide"] = first_spellings(whole_slides(labels))
    return labels


def _slides_as_cases(labels: pd.DataFrame, images: pd.DataFrame, names: pd.DataFrame) -> int:
    """Count the slides that stand for a case because neither the table nor the file names give one."""
    told = (images["case"] != "") | (labels["case"] == names.loc[labels.index, "case"]) | (labels["case"] == "")
    return labels.loc[~told, "case"].nunique()


def _check(labels: pd.DataFrame, params: Params, scheme: LabelScheme, csv: Path, without_case: pd.Series) -> None:
    """Reject tables that later stages could not use, in a sentence with rows and the way out."""
    cases = labels.groupby("slide")["case"].nunique()
    split_slides = labels["slide"].isin(cases.index[(cases > 1) & (cases.index != "")])
    rules = [_unlabelled(labels, task, scheme) for task in params.tasks]
    rules += [
        (
            labels[name].map(lambda label, parents=task.parents: parents.get(label, "")).ne(labels[task.parent])
            & (labels[name] != ""),
            f"whose {task.parent} label is not that of the {name} label",
            "Correct the CSV",
            [task.parent, name],
        )
        for name, task in scheme.tasks.items()
        if task.parent
    ]
    rules += [
        (
            split_slides,
            "with a slide that is in several cases",
            "Number slides across cases, or set ingest.columns.slide to null",
            ["slide", "case"],
        ),
        (
            without_case & (not without_case.all()),
            f"of {len(labels):,} without a case, which the other rows have: two rows of one "
            "case could be on both sides of a split",
            "Fill in the column that ingest.columns.case names, or set ingest.columns.case to null",
            ["path"],
        ),
    ]
    for name in params.tasks:
        _labels_are_no_ids(labels, name, csv)
    for wrong, what, way_out, show in rules:
        rows = labels[wrong].sort_values("row").drop_duplicates("row")
        if len(rows):
            values = rows[show].agg(" ".join, axis=1)
            listed = [f"row {row}: {value}" for row, value in zip(rows["row"], values, strict=True)]
            raise DataError(f"{csv}: {count(len(rows), 'row')} {what} ({some(listed, 3)}). {way_out}.")


def _labels_are_no_ids(labels: pd.DataFrame, task: str, csv: Path) -> None:
    """Reject labels that are the ids of patients or slides: somebody mixed up two columns."""
    for unit in ("case", "slide"):
        ids = labels[unit].map(id_key)
        if len(labels) and (ids != "").all() and (labels[task].map(id_key) == ids).all():
            raise DataError(
                f"{csv}: the labels of task '{task}' are the {unit}s ({some(sorted(set(labels[task])), 3)}). Name "
                f"the classes' column in labels.tasks.{task}.column, or the {unit}s' in ingest.columns.{unit} (without "
                "a CSV, folder1 is the outermost folder)."
            )


def _unlabelled(labels: pd.DataFrame, task: str, scheme: LabelScheme) -> tuple[pd.Series, str, str, list[str]]:
    """Make the rule that every image has a label of the task."""
    and_names = f", and file names that do not follow {scheme.grammar}" if scheme.grammar else ""
    column = scheme[task].column
    fill_in = f"Fill in the column '{column}'" if column else f"Name the CSV's column in labels.tasks.{task}.column"
    others = [name for name in scheme.columns if name != task and (labels[name] != "").all()]
    or_else = f", or set tasks to [{', '.join(others)}]" if others else ""
    drop = ", or set impute.unlabelled to drop to leave such rows out"
    return labels[task] == "", f"without a label of task '{task}'{and_names}", f"{fill_in}{or_else}{drop}", ["path"]
