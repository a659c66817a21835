"""Whole slides that tests paint: tiled pyramids of a few thousand pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

GLASS, RED, BLUE = (240, 240, 240), (230, 150, 180), (60, 60, 160)  # tiny_onnx's model takes what is dark for malignant


def painted() -> np.ndarray:
    """512 x 256: glass, and on it a rectangle, a third of it red and the rest blue."""
    pixels = np.full((256, 512, 3), GLASS, np.uint8)
    pixels[64:192, 64:192], pixels[64:192, 192:448] = RED, BLUE
    return pixels


def write_slide(path: Path, pixels: np.ndarray | None = None, um: float | None = 0.5, levels: int = 2) -> Path:
    """A tiled pyramid."""
    pixels = painted() if pixels is None else pixels
    scale: dict[str, Any] = {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": "CENTIMETER"} if um else {}
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            small = pixels[:: 4**level, :: 4**level]
            about = {**scale, "subfiletype": 1} if level else scale
            file.write(small, tile=(64, 64), photometric="rgb", compression="deflate", metadata=None, **about)
    return path


def damage(path: Path) -> None:
    """Overwrite one tile of a slide: x 128 to 192, y 64 to 128."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, length = page.dataoffsets[8 + 2], page.databytecounts[8 + 2]
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
