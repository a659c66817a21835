"""The report's charts as SVG text: no script, no font of their own, the same bytes for the same figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from biopsy.evaluation.outcome import Undefined

SIDE, LEFT, TOP, RIGHT, BOTTOM = 300, 58, 10, 12, 40  # of a square plot and its margins
DASHES = ("", "7 3", "2 3", "9 3 2 3")  # told apart without colours
BEFORE, AFTER = "#8a8a8a", "#0072B2"
FIRST, SECOND = "#0072B2", "#D55E00"
TOPS = (0.1, 0.2, 0.4, 0.8, 1.0)  # ends of a scale whose quarters are short numbers


class Line(NamedTuple):
    """A curve: its points, its colour, and its place among the others, which says how it is dashed."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str
    place: int


def roc_chart(table: pd.DataFrame, colours: dict[str, str], title: str, band: pd.DataFrame | Undefined) -> Markup:
    """Draw the ROC curve of each class against the rest, from `curve_table`, and the `roc_band` of the first."""
    parts = [_line([(0, 0), (1, 1)], "#999", "2 4", 1)]
    if isinstance(band, pd.DataFrame):
        below, above = (list(zip(band["fpr"], band[side], strict=True)) for side in ("low", "high"))
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in below + above[::-1])
        parts.append(f'<polygon points="{path}" fill="{escape(colours[table["class"].iloc[0]])}" fill-opacity="0.18"/>')
    for i, (name, rows) in enumerate(table.groupby("class", sort=False)):
        points = zip(rows["fpr"], rows["tpr"], strict=True)
        parts.append(_line(points, colours[str(name)], dash(i), 2))
    return _square(parts, "false positive rate", "true positive rate", title)


def reliability_chart(
    before: Sequence[dict[str, Any]] | None, after: Sequence[dict[str, Any]], stated: str, title: str
) -> Markup:
    """Draw what came true against what was stated, with bands; `before` in grey squares where it differs."""
    parts = [_line([(0, 0), (1, 1)], "#999", "2 4", 1)]
    for row in after:
        x, low, high = _x(row["stated"]), _y(row["low"]), _y(row["high"])
        parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8" '
                     f'stroke="{AFTER}" stroke-width="1.3" fill="none"/>')  # fmt: skip
    for row in before or ():
        x, y = _x(row["stated"]) - 4, _y(row["true"]) - 4
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="8" height="8" fill="none" stroke="{BEFORE}"/>')
    parts += [
        f'<circle cx="{_x(row["stated"]):.1f}" cy="{_y(row["true"]):.1f}" r="4.5" fill="{AFTER}"/>' for row in after
    ]
    return _square(parts, stated, "observed share", title)


def curve_chart(lines: Iterable[Line], across: str, up: str, title: str, below: bool = False) -> Markup:
    """Draw curves over 0 to 1 on a scale that fits them; `below`: with a quarter of it below 0."""
    drawn = list(lines)
    most = max((max(line.y) for line in drawn), default=0.0)
    high = next((top for top in TOPS if top >= most), 1.0)
    low = -high / 4 if below else 0.0
    parts = [
        _line(zip(line.x, [(y - low) / (high - low) for y in line.y], strict=True), line.colour, dash(line.place), 2)
        for line in drawn
    ]
    inside = f'x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" viewBox="{LEFT} {TOP} {SIDE} {SIDE}"'
    kept = f'<svg {inside} aria-hidden="true">{"".join(parts)}</svg>'  # what leaves the scale is not drawn
    return _square([kept], across, up, title, low, high)


def interval_bar(value: float | None, low: float | None, high: float | None, title: str) -> Markup:
    """Draw a figure and its interval on a line from 0 to 1, for a cell of a table."""
    if value is None:
        return Markup("")
    x = 4 + 112 * value
    parts = ['<path d="M4 14H116M4 11v6M60 12v4M116 11v6" stroke="#888" stroke-width="1" fill="none"/>']
    if low is not None and high is not None:
        parts.append(f'<path d="M{4 + 112 * low:.1f} 7H{4 + 112 * high:.1f}" stroke="{AFTER}" stroke-width="3"/>')
    parts.append(f'<circle cx="{x:.1f}" cy="7" r="4" fill="#D55E00"/>')
    return svg("bar", "0 0 120 20", "".join(parts), title)


def range_bar(here: Mapping[str, float], training: Mapping[str, float], title: str) -> Markup:
    """Draw two ranges (low, median, high) on one scale, that of the training above, for a cell of a table."""
    start = min(here["low"], training["low"])
    length = max(here["high"], training["high"]) - start
    parts = []
    for found, y, colour in ((training, 5, AFTER), (here, 15, SECOND)):
        low, median, high = (
            4 + 112 * ((found[key] - start) / length if length else 0.5) for key in ("low", "median", "high")
        )
        parts.append(f'<path d="M{low:.1f} {y}H{max(high, low + 1):.1f}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{median:.1f}" cy="{y}" r="4" fill="{colour}"/>')
    return svg("bar", "0 0 120 20", "".join(parts), title)


def swatch(colour: str, index: int) -> Markup:
    """Draw the line of a class or a curve in a legend."""
    line = f'<path d="M0 6H26" stroke="{escape(colour)}" stroke-width="3" stroke-dasharray="{dash(index)}"/>'
    return svg("swatch", "0 0 26 12", line)


def dash(index: int) -> str:
    """Return the dashes of the class, or curve, at a place among the others."""
    return DASHES[index % len(DASHES)]


def _square(parts: Iterable[str], x: str, y: str, title: str, low: float = 0.0, high: float = 1.0) -> Markup:
    """Put a plot into its axes, 0 to 1 across and `low` to `high` up; everything but `parts` is escaped."""
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    grid = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        grid.append(f'<path d="M{_x(tick)} {_y(0)}V{_y(1)}" stroke="#e3e3e3"/>')
        grid.append(f'<text x="{_x(tick)}" y="{_y(0) + 15}" text-anchor="middle">{tick:g}</text>')
    for tick in (high * quarter / 4 for quarter in range(-1 if low < 0 else 0, 5)):
        at, shade = _y((tick - low) / (high - low)), "#999" if low < 0 and tick == 0 else "#e3e3e3"
        grid.append(f'<path d="M{_x(0)} {at:g}H{_x(1)}" stroke="{shade}"/>')
        grid.append(f'<text x="{LEFT - 6}" y="{at + 4:g}" text-anchor="end">{tick:g}</text>')
    middle = TOP + SIDE / 2
    names = (
        f'<text x="{LEFT + SIDE / 2}" y="{height - 6}" text-anchor="middle">{escape(x)}</text>'
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    body = "".join(grid) + names + "".join(parts)
    return svg("chart", f"0 0 {width} {height}", body, title)


def svg(kind: str, box: str, body: str, title: str = "") -> Markup:
    """Wrap what is drawn; without a title it is decoration, which a screen reader passes over."""
    about = f'role="img" aria-label="{escape(title)}"' if title else 'aria-hidden="true"'
    return Markup(f'<svg class="{kind}" viewBox="{box}" {about}>{body}</svg>')  # noqa: S704 - texts in it are escaped


def _line(points: Iterable[tuple[float, float]], colour: str, dashes: str, width: float) -> str:
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{escape(colour)}" stroke-width="{width}" '
        f'stroke-dasharray="{dashes}"/>'
    )


def _x(value: float) -> float:
    return LEFT + SIDE * value


def _y(value: float) -> float:
    return TOP + SIDE * (1 - value)
