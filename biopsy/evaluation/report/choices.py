"""What a user could do with the probabilities: give no answer where the model is not sure, and when to act on one."""

from typing import Any

from biopsy.core.text import count
from biopsy.evaluation.abstention import STEPS
from biopsy.evaluation.decision import better
from biopsy.evaluation.report import charts
from biopsy.evaluation.report.words import cut, interval, number

UNITS = {"image": charts.FIRST, "case": charts.SECOND}


def abstention(details: dict[str, Any], title: str) -> dict[str, Any]:
    """Draw error against share answered, and say what the rule does: `chart`, `legend`, `says` (sentences)."""
    found = details["abstention"]
    units = [unit for unit in UNITS if found[unit]]
    shares = [step / STEPS for step in range(1, STEPS + 1)]
    lines = [charts.Line(shares, found[unit]["risk"], UNITS[unit], i) for i, unit in enumerate(units)]
    chart = charts.curve_chart(
        lines, "share answered, most confident first", "share of these that is wrong", f"risk and coverage of {title}"
    )
    legend = [(f"{unit}s", charts.swatch(UNITS[unit], i)) for i, unit in enumerate(units)]
    says = [sentence for unit in units for sentence in _say(found[unit], unit, found["target"])]
    if not found["case"]:
        says.append(f"Cases: no line, because {found['reasons']['case']}.")
    return {"chart": chart, "legend": legend, "says": says}


def decision(details: dict[str, Any], title: str) -> dict[str, Any]:
    """Draw the decision curve, None where there is none, and say where the model is worth acting on."""
    found = details["decision"]
    curve, unit = found["curve"], found["unit"]
    if not curve:
        return {"chart": None, "legend": [], "says": f"No curve: {found.get('reasons', {}).get('curve', 'not known')}."}
    at = curve["threshold"]
    rows = [("the model", curve["model"], charts.FIRST), (f"every {unit}", curve["all"], charts.SECOND),
            (f"no {unit}", [0.0] * len(at), "#555555")]  # fmt: skip
    chart = charts.curve_chart(
        [charts.Line(at, y, colour, i) for i, (_, y, colour) in enumerate(rows)],
        "probability at which one acts", f"net benefit a {unit}", f"decision curve of {title}", below=True,
    )  # fmt: skip
    ranges = [f"{low:g} to {high:g}" if low < high else f"{low:g}" for low, high in better(curve)]
    of = count(found["of"], f"test {unit}")
    says = (
        f"On these {of} the model is better than both at {' and '.join(ranges)}; this has no interval."
        if ranges
        else f"On these {of} the model is nowhere better than both."
    )
    return {
        "chart": chart,
        "legend": [(name, charts.swatch(c, i)) for i, (name, _, c) in enumerate(rows)],
        "says": says,
    }


def _say(level: dict[str, Any], unit: str, target: float) -> list[str]:
    rule, units = level["rule"], f"{unit.capitalize()}s"
    area = (
        f"{units}: the mean error over all shares answered is {number(level['area'])}; in random order it would "
        f"be {number(level['error'])}, at best {number(level['area_best'])}."
    )
    if not rule:
        reason = level.get("reasons", {}).get("rule", "one repeat has none")
        return [area, f"{units}: no rule for an error of at most {target:g}, because {reason}."]
    val, test = rule["val"], rule["test"]
    said = (
        f"{units}: answering at a confidence of {cut(rule['threshold'])} or more, chosen on validation (there "
        f"{_of(val['wrong'], val['answered'])} wrong, {_of(val['answered'], val['of'])} answered), the model answers "
        f"{_of(test['answered'], test['of'])} test {unit}s ({100 * test['share']:.0f} %)"
    )
    if test["error"] is None:
        return [area, f"{said}."]
    known = test["interval"]
    sure = (
        f"95 % interval {interval(known)}"
        if known
        else f"no interval: {test.get('reasons', {}).get('interval', 'not known')}"
    )
    reached = "is met" if test["error"] <= target else "is not met"
    return [
        area,
        f"{said}, {_of(test['wrong'], test['answered'])} wrong: {number(test['error'])} ({sure}). "
        f"The target of {target:g} {reached} on the test part.",
    ]


def _of(part: float, whole: float) -> str:
    return f"{part:.4g} of {whole:.4g}"
