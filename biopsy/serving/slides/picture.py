"""The picture of a slide's heat map: with a title, the colours and what they mean. Equal inputs give equal bytes."""

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.text import count
from biopsy.images.slides.tissue import Cut, Overview
from biopsy.networks.model_file import NOTICE
from biopsy.serving.slides.heat import LOST
from biopsy.serving.slides.outcome import Totals

VIRIDIS = cv2.COLORMAP_VIRIDIS  # uniform to the eye, also to a colour-blind one, and unlike the stains
GREY = (120, 120, 120)  # what could not be predicted
DRAWN = 1000  # pixels of the longer side of the heat map
FONT = cv2.FontFace("sans")  # OpenCV's own, which has the letters of most languages
LARGE, SMALL, LINE = 24, 16, 24  # pixels: letters, and from one line to the next
EDGE, BAR, NUMBERS = 24, 22, 56  # pixels: around everything, the width of the bar of colours, and of its numbers
LEAST = 480  # pixels of the height of the bar, and of the width beside it, at least


def draw_heatmap(overview: Overview, totals: Totals, cut: Cut, title: str, shown: str) -> NDArray[np.uint8]:
    """Lay the probability of the shown classes on the grey overview; what has no tile keeps its colours.

    Parameters
    ----------
    overview, totals, cut
        The slide seen small, its answers, and how its tiles were cut.
    title, shown
        The slide's name, and what the colours show, in words.

    Returns
    -------
    uint8 array of shape (height, width, 3)
        RGB.
    """
    drawn = _laid(overview, totals)
    height, width = drawn.shape[:2]
    tall, wide = max(height, LEAST), max(width, LEAST) + EDGE + BAR + NUMBERS
    lines = [line for text in (f"Colours: {shown}.", _told(totals, cut), NOTICE) for line in _wrapped(text, wide)]
    top, bottom = EDGE + 44, EDGE + LINE * len(lines) + EDGE
    canvas = np.full((top + tall + bottom, wide + 2 * EDGE, 3), 255, np.uint8)
    canvas[top : top + height, EDGE : EDGE + width] = drawn
    left = EDGE + wide - BAR - NUMBERS
    canvas[top : top + tall, left : left + BAR] = _coloured(np.linspace(1, 0, tall, dtype=np.float32)[:, None])
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = top + round((1 - share) * (tall - 1))
        canvas[place, left + BAR : left + BAR + 5] = 0
        _write(canvas, f"{share:g}", left + BAR + 10, place + SMALL // 3, SMALL)
    _write(canvas, _cut(title, wide), EDGE, EDGE + LARGE, LARGE)
    for number, line in enumerate(lines):
        _write(canvas, line, EDGE, top + tall + EDGE + LINE * number + SMALL, SMALL)
    return canvas


def _laid(overview: Overview, totals: Totals) -> NDArray[np.uint8]:
    """Return the overview with its heat, (h, w, 3) uint8; a small one is enlarged by a whole number."""
    height, width = overview.image.shape[:2]
    shrink = max(1.0, max(height, width) / DRAWN)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    image = np.asarray(cv2.resize(overview.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    (height, width), step = image.shape[:2], overview.step * shrink
    heat = totals.heat.at((np.arange(width) + 0.5) * step, (np.arange(height) + 0.5) * step)
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    laid = np.round(0.3 * grey + 0.7 * _coloured(np.nan_to_num(heat))).astype(np.uint8)
    laid[heat == LOST] = GREY
    mixed = np.where(np.isnan(heat)[..., None], image, laid)
    times = max(1, DRAWN // max(height, width))
    return mixed.repeat(times, 0).repeat(times, 1)


def _coloured(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn shares, 0 to 1, (h, w), into colours, RGB uint8 (h, w, 3)."""
    levels = np.clip(np.round(255 * shares), 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, VIRIDIS)[..., ::-1], np.uint8)


def _told(totals: Totals, cut: Cut) -> str:
    mean = f", overlapping by {cut.overlap:.0%}: the mean of those on a place" if cut.overlap else ""
    lost = f" Grey: {count(totals.failed, 'tile')} could not be predicted." if totals.failed else ""
    return f"{count(totals.tiles - totals.failed, 'tile')}{mean}. Without colour: less than half of it is tissue.{lost}"


def _write(canvas: NDArray[np.uint8], text: str, left: int, base: int, size: int) -> None:
    cv2.putText(canvas, text, (left, base), (0, 0, 0), FONT, size, 400)


def _across(text: str, size: int) -> int:
    """Return the width of a line in pixels."""
    return int(cv2.getTextSize((2**20, LINE), text, (0, 0), FONT, size, 400)[2])


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if _across(longer, SMALL) <= width or not lines[-1] else [*lines, word]
    return lines


def _cut(text: str, width: int) -> str:
    """Take letters away from the middle of a line that is too long."""
    keep = len(text)
    while keep > 2 and _across(text, LARGE) > width:
        keep -= 2
        text = f"{text[: keep // 2]}…{text[-(keep // 2) :]}"
    return text
