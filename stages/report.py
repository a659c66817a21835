"""Write the report of all results as one HTML file: `python stages/report.py`."""

from pathlib import Path

from biopsy.core.files import atomic_file
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.evaluation.report.page import render


def report(params: Params, root: Path = Path()) -> None:
    """Write `plots/report.html` below `root`."""
    page = render(params, root)
    with atomic_file(root / "plots/report.html") as temporary:
        temporary.write_text(page, "utf-8")
    print(f"report: {len(page.encode()) / 1e6:.2f} MB -> {root / 'plots/report.html'}")


def main() -> None:
    """Read the parameters."""
    report(read_params())


if __name__ == "__main__":
    run_stage(main)
