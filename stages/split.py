"""Divide the labelled images into train, val and test, once per protocol, and say what each split leaks."""

from pathlib import Path
from typing import Any

from biopsy.core.entries import stage_params
from biopsy.core.errors import some
from biopsy.core.files import atomic_dir, atomic_file, read_csv, write_csv
from biopsy.core.layout import IMAGES, LABELS, METADATA, SPLITS
from biopsy.core.outside import Outside, watch
from biopsy.core.params import Params
from biopsy.core.stage import run_stage
from biopsy.tables.labels.scheme import read_scheme
from biopsy.tables.split.earlier import RECORD, Earlier, how_drawn, record_of, written
from biopsy.tables.split.fold_table import is_official, match_fold_table, read_fold_table
from biopsy.tables.split.given import read_given, unused_column
from biopsy.tables.split.plots import plot_split
from biopsy.tables.split.published import PUBLISHED, test_set_here
from biopsy.tables.split.splits import make_split
from biopsy.tables.split.summary import check_split, check_tasks, summarise, to_json

MUCH = 0.5  # of all images, in one case


def split(
    params: Params,
    *,
    labels_csv: Path,
    labels_json: Path,
    splits_dir: Path,
    metrics_json: Path,
    plots_dir: Path,
    images_csv: Path = IMAGES,
    metadata_csv: Path = METADATA,
) -> None:
    """Write one table and one picture per protocol, and the metrics of all, once every split has been checked."""
    scheme = read_scheme(labels_json)
    labels = read_csv(labels_csv, ["image_id", "slide", "case", "pixels_sha256", *scheme.columns])
    check_tasks(labels, params.tasks, scheme)
    fold_table, official = None, False
    respelled: dict[str, Any] = {"count": 0, "listed": []}
    if params.split.fold_table:
        fold_table = read_fold_table(Path(params.split.fold_table))
        official = is_official(fold_table)
        fold_table, respelled = match_fold_table(fold_table, labels["path"])
    if "given" in params.protocols:
        given = read_given(metadata_csv, read_csv(images_csv, ["image_id", "row"]), params.split, params.ingest)
        labels = labels.assign(given=labels["image_id"].map(given).fillna(""))
    elif column := unused_column(metadata_csv, params.ingest):
        print(
            f"split: the table's column '{column}' says train and test, and is not used. To use it: -S "
            f"'split.column={column}' -S 'protocols=[given]'."
        )
    splits, summary, drawn, earlier = {}, {}, {}, Earlier(splits_dir)
    earlier.leave(params.protocols)
    for protocol in params.protocols:
        how = how_drawn(params.seed, scheme.columns, protocol, params.split)
        offered = earlier.offer(labels, protocol, how)
        splits[protocol] = make_split(offered, scheme.columns, protocol, params.split, params.seed, fold_table)
        check_split(labels, splits[protocol], protocol)
        drawn[protocol] = earlier.settle(labels, splits[protocol], protocol, how)
        summary[protocol] = summarise(labels, splits[protocol], protocol, scheme)
        summary[protocol]["kept"] = drawn[protocol].model_dump(include={"kept", "earlier"})
        if protocol == "fold1" and fold_table is not None:
            summary[protocol]["fold_table"] = "official" if official else "own"
            summary[protocol]["matched_loosely"] = respelled
        summary[protocol]["says"] += test_set_here(protocol, splits[protocol], fold_table)
        if protocol in PUBLISHED:
            summary[protocol]["source"] = PUBLISHED[protocol].source
    with atomic_dir(plots_dir) as plots, atomic_dir(splits_dir) as tables:
        for protocol, table in splits.items():
            plot_split(labels, table, scheme, protocol, summary[protocol]["says"], plots / f"{protocol}.png")
            write_csv(tables / f"{protocol}.csv", written(table, labels))
        (tables / RECORD).write_bytes(record_of(drawn))
    with atomic_file(metrics_json) as temporary:
        temporary.write_text(to_json(summary), "utf-8")
    print(f"split: {len(labels)} images. " + " ".join(_line(name, entry) for name, entry in summary.items()))
    known = labels.loc[labels["case"] != "", "case"].value_counts()
    if len(known) > 1 and known.iloc[0] > MUCH * len(labels):
        print(
            f"split: warning: {known.iloc[0]:,} of {len(labels):,} images are of case {known.index[0]}. A model learns "
            "mostly this case, and the figures rest on it or on few images of others."
        )
    if respelled["count"]:
        listed = some(respelled["listed"], 1)
        print(f"split: the fold table spells {respelled['count']:,} files in another way ({listed}).")
    print(*(f"split: {sentence}" for sentence in earlier.says), sep="\n", end="\n" if earlier.says else "")


def _line(protocol: str, entry: dict[str, object]) -> str:
    lost = entry["not_estimable"]
    tail = f"; not in every part: {some(lost, 8)}" if isinstance(lost, dict) and lost else ""
    return f"{protocol}: {entry['says']}{tail}."


def main() -> None:
    """Run on the project's own paths."""
    params = stage_params()
    table = params.split.fold_table
    with watch("split", [Outside("split.fold_table", Path(table))] if table else []):
        split(
            params,
            labels_csv=LABELS,
            labels_json=Path("models/labels.json"),
            splits_dir=SPLITS,
            metrics_json=Path("metrics/split.json"),
            plots_dir=Path("plots/split"),
        )


if __name__ == "__main__":
    run_stage(main)
