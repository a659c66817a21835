"""The prediction sets in words: which classes a case may be, how often the truth was among them, and at what price."""

from collections.abc import Mapping
from typing import Any

from biopsy.core.text import count, isolated
from biopsy.evaluation.outcome import DIGITS
from biopsy.evaluation.report.words import cut, interval, number


def prediction_sets(details: Mapping[str, Any]) -> dict[str, Any]:
    """Put what `describe_sets` found into `rows`, one a level, and `says`, the same as sentences."""
    found = details["sets"]
    reasons = found["levels"].get("reasons", {})
    rows = [
        _row(level, at, reasons.get(level, "one repeat has none"))
        for level, at in found["levels"].items()
        if level != "reasons"
    ]
    by = (
        f"{count(found['cases'], 'case')} of {'all folds' if found['from'] == 'folds' else 'validation'}"
        if found["from"]
        else ""
    )
    return {"rows": rows, "by": by, "folds": found["from"] == "folds", "says": [_say(row, by) for row in rows]}


def _row(level: str, at: Mapping[str, Any] | None, reason: str) -> dict[str, Any]:
    row: dict[str, Any] = {"level": f"{100 * float(level):g} %"}
    if not at:
        return {**row, "reason": reason}
    row["least"] = round(1 - at["threshold"], DIGITS)
    if at["coverage"] is None:
        return {**row, "reason": at.get("reasons", {}).get("coverage", "not known")}
    ends = f"95 % interval {interval(at['interval'])}" if at["interval"] else f"worst fold {number(at['lowest'], 2)}"
    told = [
        f"{isolated(name)} {one['covered']:.4g} of {one['of']:.4g}"
        + ("" if one["coverage"] is not None else " (too few)")
        for name, one in at["by_class"].items()
        if one["of"]
    ]
    return {
        **row,
        "covered": f"{at['covered']:.4g} of {at['of']:.4g} = {number(at['coverage'], 2)}",
        "ends": ends,
        "size": at["size"],
        "single": at["single"],
        "empty": at["empty"],
        "classes": ", ".join(told),
    }


def _say(row: Mapping[str, Any], by: str) -> str:
    if "least" not in row:
        return f"Sets for {row['level']} of cases: none, because {row['reason']}."
    least = cut(row["least"])
    start = f"Sets for {row['level']} of cases: all classes with a probability of {least} or more, set by {by}"
    if "reason" in row:
        return f"{start}; not tried, because {row['reason']}."
    return (
        f"{start}. They held the truth in {row['covered']} test cases ({row['ends']}); "
        f"{number(row['size'], 1)} classes on average, one class in {100 * row['single']:.0f} %, none in "
        f"{100 * row['empty']:.0f} %."
    )
