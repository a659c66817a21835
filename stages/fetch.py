"""`fetch`: bring the images and their table to data/raw, from the source that `data.source` names."""

from pathlib import Path

from biopsy.core.entries import stage_params
from biopsy.core.errors import warn
from biopsy.core.files import atomic_dir, check_count, write_json
from biopsy.core.layout import RAW
from biopsy.core.outside import watch
from biopsy.core.params import Params
from biopsy.core.stage import run_stage
from biopsy.sources.fetch import fill, outside_paths


def fetch(params: Params, raw: Path, downloads: Path) -> None:
    """Replace `raw` (images/, metadata.csv, source.json) once all three are complete."""
    with atomic_dir(raw) as new:
        facts = fill(params.data, new, downloads)
        check_count(new / "images", facts["images"])
        write_json(new / "source.json", facts)
    left_out = ", ".join(f"{count} {reason}" for reason, count in facts["left_out"].items())
    print(f"fetch: {facts['description']}{left_out and f'; left out: {left_out}'}.")


def main() -> None:
    """Run on the project's own paths."""
    params = stage_params()
    file = params.model.own_weights
    if file and not file.is_file():  # said now, not hours later by training
        warn(f"model.weights: {params.model.weights} does not exist, and training will need it.")
    with watch("fetch", outside_paths(params.data)):
        fetch(params, raw=RAW, downloads=Path("data/downloads"))


if __name__ == "__main__":
    run_stage(main)
