"""Fill gaps from the file names, check the table against them, and store the label scheme with its classes."""

from pathlib import Path
from typing import Any

from biopsy.core.entries import stage_params
from biopsy.core.errors import some
from biopsy.core.files import atomic_file, read_csv, write_csv, write_json
from biopsy.core.layout import IMAGES, LABELS, METADATA
from biopsy.core.params import Params
from biopsy.core.stage import run_stage
from biopsy.core.text import count
from biopsy.tables.impute import impute as impute_table
from biopsy.tables.labels.scheme import write_scheme
from biopsy.tables.names import count_groups


def impute(
    params: Params, *, images_csv: Path, metadata_csv: Path, labels_csv: Path, labels_json: Path, metrics_json: Path
) -> None:
    """Write the labelled table, the label scheme, and the counts; `metadata_csv` is only named in errors."""
    columns = [*params.labels.tasks, "magnification", "mpp", "slide", "case"]
    labels, scheme, counts = impute_table(
        read_csv(images_csv, ["row", "image_id", "path", *columns, "width", "height", "pixels_sha256"]),
        params,
        metadata_csv,
    )
    with atomic_file(labels_csv) as table, atomic_file(labels_json) as settled, atomic_file(metrics_json) as metrics:
        write_csv(table, labels)
        write_scheme(settled, scheme)
        write_json(metrics, counts)
    filled = ", ".join(f"{gap['count']} {column}" for column, gap in counts["filled"].items() if gap["count"])
    unlabelled = counts["unlabelled"]["dropped"]
    print(
        f"impute: {counts['images']:,} images of {count_groups(counts['slides'], counts['cases'])}; "
        f"gaps filled: {filled or 'none'}; contradictions: {counts['contradictions']['count']}"
        + (f"; {unlabelled} without a label left out." if unlabelled else ".")
    )
    if slides := counts["slides_as_cases"]:
        print(
            f"impute: warning: cases are not known, so {count(slides, 'slide')} count as one case each. If a patient "
            "may have several slides, name the column of patients in ingest.columns.case: else the images of one "
            "patient may be in training and test."
        )
    column = params.ingest.columns.case
    if column and 1 < counts["cases"] == counts["images"]:
        print(
            f"impute: warning: each image has a case of its own in the column '{column}'. If a patient may have "
            "several images, name the column of patients in ingest.columns.case: else the images of one patient may be "
            "in training and test."
        )
    for unit, ids in _told(counts["alike"]):
        groups = some((" / ".join(group) for group in ids["listed"]), 3)
        print(
            f"impute: warning: {unit}s that stay apart and may be one (leading zeros, '.0', punctuation, look-alike "
            f"letters, TCGA barcodes of one patient): {groups}. Write an id that is one in one way, "
            "else its images may be in training and test."
        )
    for column, cells in _told(counts["changed"]):
        print(
            f"impute: warning: {column}: a spreadsheet seems to have changed {cells['count']} of the values "
            f"({some(cells['listed'], 3)}), so that others may be equal now. Export this column as text."
        )
    for task in params.tasks:
        print(f"impute: task {task}: " + ", ".join(f"{name} ({n:,})" for name, n in counts["labels"][task].items()))


def _told(counts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List what was counted by column; where slides stand for cases, only cases are listed."""
    return [
        (column, found)
        for column, found in counts.items()
        if found["count"] and not (column == "slide" and found == counts["case"])
    ]


def main() -> None:
    """Run on the project's own paths."""
    impute(
        stage_params(),
        images_csv=IMAGES,
        metadata_csv=METADATA,
        labels_csv=LABELS,
        labels_json=Path("models/labels.json"),
        metrics_json=Path("metrics/impute.json"),
    )


if __name__ == "__main__":
    run_stage(main)
