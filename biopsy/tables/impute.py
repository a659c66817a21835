"""Fill the table's gaps from the file names, hold both against each other, and encode the labels once."""

from pathlib import Path
from typing import Any

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.files import LISTED
from biopsy.core.params import Params
from biopsy.core.rawcsv import count_rows
from biopsy.tables.labels.breakhis import CLASSES, SUBTYPES, class_of
from biopsy.tables.names import FACTS, fill, read_names

LABELS = {"binary": list(CLASSES), "multiclass": list(SUBTYPES)}
COLUMNS = ["image_id", "path", *FACTS, "binary", "multiclass", "width", "height", "pixels_sha256"]
COMPARED = ["class", "subtype", "magnification", "slide"]


def impute(images: pd.DataFrame, params: Params, csv: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Make the table of labelled images.

    Parameters
    ----------
    images
        What `ingest` wrote: `row`, `image_id`, `path`, the CSV's facts (empty where it has none), sizes and hashes.
    params
        `impute.contradiction` and `tasks`.
    csv
        The user's CSV, as errors name it.

    Returns
    -------
    DataFrame, dict
        COLUMNS, one row per image: `binary` 0 benign, 1 malignant; `multiclass` 0-7 in the order of `LABELS`, -1 where
        unknown. And the counts for `metrics/impute.json`.

    Raises
    ------
    DataError
        A fact that contradicts its file name or its neighbour, an image without class, slide or (for the task
        `multiclass`) tumour type, a slide in two cases, a column of cases with gaps.
    """
    stated = images = _as_text(images)
    names = read_names(images["path"])
    contradictions = _contradictions(images, names)
    if contradictions and params.impute.contradiction == "error":
        raise DataError(
            f"{csv}: {len(contradictions):,} facts contradict their file names ({some(contradictions, 3)}). "
            "Mend them, or set impute.contradiction to trust_csv or trust_name."
        )
    if params.impute.contradiction == "trust_name":
        images[COMPARED] = names[COMPARED].where(names[COMPARED] != "", images[COMPARED])
    else:  # where the CSV is trusted on one of class and type, the name's word on the other is worth nothing
        names.loc[_differ(images, names, "class") | _differ(images, names, "subtype"), ["class", "subtype"]] = ""
    labels = fill(images, names)
    images = images.assign(case=_from_their_slides(images["case"], labels["slide"]))
    labels["case"] = images["case"].where(images["case"] != "", labels["case"])
    filled = _filled(stated, labels)
    labels = _slides_and_cases(labels, images, names)
    _check(labels, params, csv, without_case=images["case"] == "")
    labels["binary"] = labels["class"].map(LABELS["binary"].index)
    labels["multiclass"] = labels["subtype"].map(lambda code: LABELS["multiclass"].index(code) if code else -1)
    policy = params.impute.contradiction
    counts = {
        "images": len(labels),
        "slides": labels["slide"].nunique(),
        "cases": labels["case"].nunique(),
        "by_class": {name: int((labels["class"] == name).sum()) for name in CLASSES},
        "by_subtype": {code: int((labels["subtype"] == code).sum()) for code in SUBTYPES},
        "filled": filled,
        "read_off_names": [column for column in FACTS if column not in filled],
        "contradictions": {"policy": policy, "count": len(contradictions), "listed": contradictions[:LISTED]},
        "names_not_breakhis": int((names["slide"] == "").sum()),
        "without_subtype": int((labels["multiclass"] < 0).sum()),
        "without_magnification": int((labels["magnification"] == "").sum()),
    }
    return labels.sort_values("image_id", ignore_index=True)[COLUMNS], counts


def _filled(images: pd.DataFrame, labels: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Count and list, for every column that the CSV has, the rows whose gap was filled."""
    stated = [column for column in FACTS if (images[column] != "").any()]
    gaps = {column: images.loc[(images[column] == "") & (labels[column] != ""), "row"] for column in stated}
    return {column: {"count": len(rows), "rows": sorted(map(int, rows))[:LISTED]} for column, rows in gaps.items()}


def _as_text(images: pd.DataFrame) -> pd.DataFrame:
    """Write every fact as text, empty where unknown: a magnification with gaps was read back as a float."""
    images = images.copy()
    values = pd.to_numeric(images["magnification"]).astype("Int64")
    images["magnification"] = values.astype("string").fillna("").astype(object)
    return images


def _contradictions(images: pd.DataFrame, names: pd.DataFrame) -> list[str]:
    """List facts that the CSV and the file name both state, differently: row, column, both values, in row order."""
    found: list[tuple[int, str]] = []
    for column in COMPARED:
        said, named = images[column], names[column]
        differ = _differ(images, names, column)
        found += [
            (int(row), f"row {row}: {column} '{a}', file name '{b}'")
            for row, a, b in zip(images.loc[differ, "row"], said[differ], named[differ], strict=True)
        ]
    return [sentence for _, sentence in sorted(found)]


def _differ(images: pd.DataFrame, names: pd.DataFrame, column: str) -> pd.Series:
    said, named = images[column], names[column]
    return (said != "") & (named != "") & (said.str.casefold() != named.str.casefold())


def _from_their_slides(cases: pd.Series, slides: pd.Series) -> pd.Series:
    """Fill a case that the CSV leaves empty from another row of the same slide."""
    known = dict(zip(slides[cases != ""], cases[cases != ""], strict=True)) | {"": ""}
    return cases.where(cases != "", slides.map(known).fillna(""))


def _slides_and_cases(labels: pd.DataFrame, images: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Complete slide and case.

    A case that only the file name tells holds for that name's slide alone: a slide of another name, from the CSV, is
    its own case. A case without slides counts as one slide.
    """
    own = (labels["slide"].str.casefold() == names["slide"].str.casefold()) | (images["case"] != "")
    labels["case"] = labels["case"].where(own, labels["slide"])
    labels["slide"] = labels["slide"].where(labels["slide"] != "", labels["case"])
    return labels


def _check(labels: pd.DataFrame, params: Params, csv: Path, without_case: pd.Series) -> None:
    """Refuse what later stages could not use, in a sentence with rows and the way out."""
    name = "and file names that do not follow BreakHis"
    of_type = labels["subtype"].map(lambda code: class_of(code) if code else "")
    cases = labels.groupby("slide")["case"].nunique()
    rules = [
        (
            labels["class"] == "",
            f"without a class, {name}",
            "Fill in the column that ingest.columns.label names",
            ["path"],
        ),
        (
            (labels["slide"] == "") & (labels["case"] == ""),
            f"without slide or case, {name}",
            "Name the CSV's column in ingest.columns.slide or ingest.columns.case and fill it in: without it images of "
            "one patient would stand on both sides of a split",
            ["path"],
        ),
        (
            (of_type != "") & (of_type != labels["class"]),
            "whose class is not that of the tumour type",
            "Mend the CSV",
            ["class", "subtype"],
        ),
        (
            (labels["subtype"] == "") & ("multiclass" in params.tasks),
            f"without a tumour type, {name}",
            "Fill in the column that ingest.columns.subtype names, or set tasks to [binary]",
            ["path"],
        ),
        (
            labels["slide"].isin(cases.index[cases > 1]),
            "with a slide that stands in several cases",
            "Number slides across cases, or set ingest.columns.slide to null",
            ["slide", "case"],
        ),
        (
            without_case & (not without_case.all()),
            f"of {len(labels):,} without a case, which the other rows have: two rows of one "
            "case could stand on both sides of a split",
            "Fill in the column that ingest.columns.case names, or set ingest.columns.case to null",
            ["path"],
        ),
    ]
    for wrong, what, way_out, show in rules:
        rows = labels[wrong].sort_values("row")
        if len(rows):
            values = rows[show].agg(" ".join, axis=1)
            listed = [f"row {row}: {value}" for row, value in zip(rows["row"], values, strict=True)]
            raise DataError(f"{csv}: {count_rows(len(rows))} {what} ({some(listed, 3)}). {way_out}.")
