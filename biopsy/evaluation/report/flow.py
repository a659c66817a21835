"""Where the images of a result come from and went, step by step and part by part."""

from collections.abc import Mapping
from typing import Any

from biopsy.core.text import isolated
from biopsy.evaluation.report.results import Run

UNITS = ("images", "slides", "cases")


def data_flow(run: Run) -> list[tuple[str, str]]:
    """Say step by step how many images there were, what went and what was filled; what is not known is left out."""
    ingest, impute, steps = run.ingest, run.impute, []
    if ingest:
        steps.append(("Source", str(ingest.get("source", "not known"))))
        if rows := ingest.get("csv", {}).get("rows"):
            steps.append(("Rows of the table", f"{rows:,}"))
        dropped = ingest.get("dropped", {})
        reasons = ", ".join(f"{reason.replace('_', ' ')} {n:,}" for reason, n in dropped.get("by_reason", {}).items())
        steps.append(("Images left out", f"{dropped.get('count', 0):,}" + (f" ({reasons})" if reasons else "")))
    if impute:
        if gone := impute.get("unlabelled", {}).get("dropped"):
            steps.append(("Without a label, left out", f"{gone:,}"))
        filled = {name: entry.get("count", 0) for name, entry in impute.get("filled", {}).items()}
        steps.append(("Gaps filled from file names", ", ".join(f"{k} {v:,}" for k, v in filled.items()) or "none"))
        units = [f"{impute[unit]:,} {unit}" for unit in UNITS if impute.get(unit)]
        steps.append(("Used", ", ".join(units)))
        for task, classes in impute.get("labels", {}).items():
            steps.append((f"Images by {task}", ", ".join(f"{isolated(name)}: {n:,}" for name, n in classes.items())))
    if run.stained:
        counts = (f"{name} {done:,} of {images:,}" for name, (done, images) in run.stained.items())
        steps.append((f"Stain normalised by {run.params.stain.method}", ", ".join(counts)))
    return steps


def split_row(name: str, split: Mapping[str, Any]) -> dict[str, Any]:
    """Count the images, slides and cases of each part of a protocol, and the cases and slides that two parts share."""
    parts = split.get("parts", {})
    folds = len(parts) if "train" not in parts else 0
    if folds:
        parts = {part: _range(parts, part) for part in ("train", "val", "test")}
    shared = split.get("shared", {})
    return {
        "name": name,
        "says": split.get("says"),
        "parts": {part: {unit: size.get(unit) for unit in UNITS} for part, size in parts.items()},
        "folds": folds,
        "shared": {unit: shared.get(unit) for unit in ("cases", "slides", "pixels")},
    }


def _range(folds: Mapping[str, Any], part: str) -> dict[str, str | None]:
    """Give the range of a part's sizes over the folds; None where one is not known."""
    found: dict[str, str | None] = {}
    for unit in UNITS:
        sizes = {fold[part].get(unit) for fold in folds.values()}
        found[unit] = None if None in sizes else "-".join(str(end) for end in sorted({min(sizes), max(sizes)}))
    return found
