"""Maps of images as SVG text: groups told apart by colour and shape, slides by lines to their middle."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from biopsy.evaluation.outcome import Names
from biopsy.evaluation.report.charts import svg

SIDE, EDGE = 300, 10
GOLDEN = 137.5  # degrees: hues of neighbours in a list lie far apart
SHAPES = (  # drawn from a point; the last ones are lines
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", "m-3-3h6v6h-6z", "m-3.5 3h7l-3.5-6z", "m0-4l4 4-4 4-4-4z", "m-3.5-3h7l-3.5 6z",
    "m-3.5 0h7m-3.5-3.5v7", "m-3-3l6 6m0-6l-6 6", "m-3.5 0h7",
)  # fmt: skip
FILLED = 5
BOX = f"0 0 {SIDE} {SIDE}"

Points = NDArray[np.float64]


def group_map(points: Points, groups: Names, colours: Mapping[str, str], title: str) -> Markup:
    """Draw (n, 2) points of (n,) groups, each in its colour and in the shape of its place in `colours`."""
    at = _place(points)
    parts = [_marks(at[groups == name], colour, i) for i, (name, colour) in enumerate(colours.items())]
    return svg("chart", BOX, "".join(parts), title)


def star_map(points: Points, groups: Names, title: str) -> Markup:
    """Draw (n, 2) points, each with a line to the middle of its group; a group without a name is left out."""
    at = _place(points)
    parts = []
    for i, name in enumerate(np.unique(groups[groups != ""])):
        own = at[groups == name]
        middle = own.mean(0)
        lines = "".join(f"M{middle[0]:.1f} {middle[1]:.1f}L{x:.1f} {y:.1f}" for x, y in own)
        colour = f"hsl({i * GOLDEN % 360:.0f} 65% {32 + 14 * (i % 2)}%)"
        parts.append(f'<path d="{lines}" stroke="{colour}" stroke-width=".9" fill="none"/>')
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in own)
        parts.append(f'<path d="{dots}" stroke="{colour}" stroke-width="4" stroke-linecap="round"/>')
    return svg("chart", BOX, "".join(parts), title)


def mark(colour: str, place: int) -> Markup:
    """Draw the mark of a group for a legend."""
    return svg("swatch", "-6 0 26 12", _marks(np.array([[7.0, 6.0]]), colour, place))


def _marks(at: Points, colour: str, place: int) -> str:
    shape = SHAPES[place % len(SHAPES)]
    path = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in at)
    filled = place % len(SHAPES) < FILLED
    how = f'fill="{escape(colour)}" fill-opacity=".75"' if filled else f'fill="none" stroke="{escape(colour)}"'
    return f'<path d="{path}" {how} stroke-width="{0 if filled else 1.6}"/>' if path else ""


def _place(points: Points) -> Points:
    """Fit points into the square, both directions on one scale, since distances are what a map shows."""
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * EDGE) / max(float((high - low).max()), 1e-9)
    placed: Points = SIDE / 2 + (points - (low + high) / 2) * scale * np.array([1, -1])
    return placed


def legend(colours: Mapping[str, str]) -> list[tuple[str, Any]]:
    """List name and mark of each group."""
    return [(name, mark(colour, i)) for i, (name, colour) in enumerate(colours.items())]
