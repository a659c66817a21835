"""`fetch`: bring the images and their table to data/raw, from the source that `data.source` names."""

from pathlib import Path

from biopsy.core.errors import run
from biopsy.core.files import atomic_dir, write_json
from biopsy.core.params import Params, read_params
from biopsy.sources.fetch import fill


def fetch(params: Params, raw: Path, downloads: Path) -> None:
    """Replace `raw` by one with new images/, metadata.csv and source.json, once all three are whole."""
    with atomic_dir(raw) as new:
        facts = fill(params.data, new, downloads)
        write_json(new / "source.json", facts)
    left_out = ", ".join(f"{count} {reason}" for reason, count in facts["left_out"].items())
    print(f"fetch: {facts['description']}{left_out and f'; left out: {left_out}'}.")


def main() -> None:
    """Run on the project's own paths."""
    fetch(read_params(), raw=Path("data/raw"), downloads=Path("data/downloads"))


if __name__ == "__main__":
    run(main)
