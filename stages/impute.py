"""Fill gaps from the file names, hold the table against them, encode the labels and store their order."""

from pathlib import Path

from biopsy.core.files import atomic_file, read_csv, write_csv, write_json
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.tables.impute import LABELS
from biopsy.tables.impute import impute as impute_table


def impute(
    params: Params, *, images_csv: Path, metadata_csv: Path, labels_csv: Path, labels_json: Path, metrics_json: Path
) -> None:
    """Write the labelled table, the order of the labels, and the counts; `metadata_csv` is only named in errors."""
    labels, counts = impute_table(read_csv(images_csv, ["image_id", "path", "pixels_sha256"]), params, metadata_csv)
    with atomic_file(labels_csv) as table, atomic_file(labels_json) as order, atomic_file(metrics_json) as metrics:
        write_csv(table, labels)
        write_json(order, LABELS)
        write_json(metrics, counts)
    filled = ", ".join(f"{gap['count']} {column}" for column, gap in counts["filled"].items() if gap["count"])
    print(
        f"impute: {counts['images']:,} images of {counts['slides']} slides and {counts['cases']} cases; "
        f"gaps filled: {filled or 'none'}; contradictions: {counts['contradictions']['count']}."
    )


def main() -> None:
    """Run on the project's own paths."""
    impute(
        read_params(),
        images_csv=Path("data/interim/images.csv"),
        metadata_csv=Path("data/raw/metadata.csv"),
        labels_csv=Path("data/interim/labels.csv"),
        labels_json=Path("models/labels.json"),
        metrics_json=Path("metrics/impute.json"),
    )


if __name__ == "__main__":
    run_stage(main)
