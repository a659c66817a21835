"""Write the report of all results as one HTML file, and a card of each model: `python stages/report.py`."""

from pathlib import Path

from biopsy.core.errors import warn
from biopsy.core.files import atomic_dir, atomic_file
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.evaluation.report.card import model_cards
from biopsy.evaluation.report.page import render
from biopsy.evaluation.report.results import read_run


def report(params: Params, root: Path = Path()) -> None:
    """Write `plots/report.html` and `plots/cards` below `root`."""
    run = read_run(params, root)
    for problem in run.problems:
        warn(problem)
    page, cards = render(run), model_cards(run)
    with atomic_dir(root / "plots/cards") as folder:
        for name, text in cards.items():
            (folder / f"{name}.md").write_text(text, "utf-8")
    with atomic_file(root / "plots/report.html") as temporary:
        temporary.write_text(page, "utf-8")
    print(f"report: {len(page.encode()) / 1e6:.2f} MB -> {root / 'plots/report.html'}")


def main() -> None:
    """Read the parameters."""
    report(read_params())


if __name__ == "__main__":
    run_stage(main)
