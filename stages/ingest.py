"""Check the CSV against its schema and against the files; write the table of usable images, count everything else."""

from pathlib import Path

from biopsy.core.entries import stage_params
from biopsy.core.errors import some
from biopsy.core.files import atomic_dir, atomic_file, read_json, write_csv, write_json
from biopsy.core.layout import IMAGES, METADATA, ORIGINALS, SOURCE
from biopsy.core.params import Params
from biopsy.core.stage import run_stage
from biopsy.tables.audit import Audit, dropped_in_words, image_files
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.metadata import read_metadata
from biopsy.tables.names import count_groups


def ingest(
    params: Params,
    *,
    metadata_csv: Path,
    images_dir: Path,
    source_json: Path,
    images_csv: Path,
    metrics_json: Path,
    plots_dir: Path,
) -> None:
    """Write the table of usable images, the counts and three pictures, once all checks are passed."""
    metadata = read_metadata(metadata_csv, params.ingest, LabelScheme.of(params.labels), image_files(images_dir))
    source = read_json(source_json, {"description": str, "synthetic": bool})
    if isinstance(odd := source.get("not_files"), dict):
        metadata.hints.update(odd)
    audit = Audit(metadata, images_dir, params.ingest, metadata_csv)
    audit.run()
    from biopsy.tables.ingest_plots import (
        save_plots,  # seaborn takes two seconds; mistakes in the CSV are told before
    )

    summary = audit.summary()
    groups = count_groups(summary["slides"], summary["cases"])
    note = f"{summary['images']:,} images of {groups}. {source['description']}"
    about = {"source": source["description"], "synthetic": source["synthetic"]}
    with atomic_dir(plots_dir) as plots, atomic_file(images_csv) as table, atomic_file(metrics_json) as metrics:
        save_plots(audit.filled(), metadata.scheme, note, plots)
        write_csv(table, audit.images)
        write_json(metrics, about | summary | {"csv": metadata.counts} | audit.counts)
    if black := audit.counts["black_rows"]["listed"]:
        print(
            f"ingest: warning: images with black rows at an end, as of a file whose end was lost: "
            f"{audit.counts['black_rows']['count']:,} ({some(black, 3)}). Look at them."
        )
    if scales := audit.scales():
        print(
            f"ingest: warning: images of several scales, or so it seems: {scales}. They are not brought to one, and "
            "the model may learn the scale. Resample the images where they differ in micrometres per pixel."
        )
    for word in metadata.counts["labels_map_unused"]["listed"]:
        print(f"ingest: warning: labels.map has the word '{word}', which is no label of the table.")
    again = metadata.counts["duplicate_rows"]["count"]
    dropped = dropped_in_words(audit.counts["dropped"]["by_reason"] | ({"repeated_row": again} if again else {}))
    print(
        f"ingest: {summary['images']:,} of {metadata.counts['rows']:,} images kept, of {groups}; "
        f"dropped: {dropped}; {metadata.counts['short_rows']['count']} short rows."
    )


def main() -> None:
    """Run on the project's own paths."""
    ingest(
        stage_params(),
        metadata_csv=METADATA,
        images_dir=ORIGINALS,
        source_json=SOURCE,
        images_csv=IMAGES,
        metrics_json=Path("metrics/ingest.json"),
        plots_dir=Path("plots/ingest"),
    )


if __name__ == "__main__":
    run_stage(main)
