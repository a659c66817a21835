"""Sample images for who has none at hand: cartoons of tissue, drawn when they are asked for, never written to disk."""

import math
from functools import lru_cache

import cv2

from biopsy.networks.model_file import Card
from biopsy.sources.sample.draw import draw_one
from biopsy.tables.labels.breakhis import TYPES

ORDER = ("DC", "A", "LC", "F", "MC", "PT", "PC", "TA")  # malignant and benign in turn
SAMPLES = {TYPES[subtype][1].replace(" ", "-"): subtype for subtype in ORDER}
USUAL = {"width": 700.0, "height": 460.0}  # pixels, as in BreakHis
MOST = 700  # pixels of the longer side


def sample_size(card: Card) -> tuple[int, int]:
    """Return width and height of a sample for a model: as its training files, within what is quick to draw."""
    ranges = card.training.ranges if card.training else {}
    sides = {side: ranges[side].median if side in ranges else usual for side, usual in USUAL.items()}
    width, height = sides["width"], sides["height"]
    scale = min(1.0, MOST / max(width, height), math.sqrt(card.preparation.max_pixels / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


@lru_cache(len(SAMPLES))
def sample_png(name: str, width: int, height: int) -> bytes:
    """Draw one of `SAMPLES`, always the same one."""
    pixels = draw_one(SAMPLES[name], width, height)
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
