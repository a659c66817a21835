"""How an image looks in a few numbers, so that images of elsewhere can be held against those of a training."""

from collections.abc import Mapping, Sequence
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from biopsy.images.looks.tissue import LEAST_TISSUE, tissue_weight

WORDS = {
    "density": "stain strength (mean optical density of tissue)",
    "red": "tissue colour, green to red (Lab a*)",
    "yellow": "tissue colour, blue to yellow (Lab b*)",
    "focus": "focus (spread of the Laplacian)",
    "brightness": "brightness (mean RGB, 0-255)",
    "tissue": "share of tissue",
    "width": "file width (pixels)",
    "height": "file height (pixels)",
}
MOST = 200  # training images that are measured: enough for a range
STEP = 3  # of the pixels in each direction that colour is measured on: a ninth of them tells the same ten times sooner
LOW, HIGH = 5, 95  # percentiles
MARGIN = 0.5  # of the range, beyond which an image is unlike training: about 1 in 1,000 where values are normal


class Range(BaseModel):
    """Where a number lies over images: its median, and the 5th and 95th percentile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(allow_inf_nan=False)
    median: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if not self.low <= self.median <= self.high:
            raise ValueError("a range must have low <= median <= high")
        return self

    def outside(self, value: float) -> bool:
        """Say whether a value lies outside."""
        return not self.low <= value <= self.high

    def far(self, value: float) -> bool:
        """Say whether a value lies outside by more than half the range."""
        margin = MARGIN * (self.high - self.low)
        return bool(value < self.low - margin or value > self.high + margin)


class Looks(BaseModel):
    """What images look like: how many were measured, and the range of each number of `WORDS` that they have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(ge=1)
    ranges: dict[str, Range]

    def unlike(self, look: Mapping[str, float]) -> list[str]:
        """Name the numbers of one image that lie far outside these ranges; a number that is not known is not named."""
        return [name for name in WORDS if name in self.ranges and name in look and self.ranges[name].far(look[name])]


def look_at(views: NDArray[np.uint8]) -> dict[str, float]:
    """Measure one image as the network sees it.

    Parameters
    ----------
    views
        (views, size, size, 3) uint8, RGB, of `prepare`.

    Returns
    -------
    dict
        The numbers of `WORDS` but width and height; without those of tissue where there is hardly any.
    """
    whole = views[:, ::STEP, ::STEP].reshape(-1, -(-views.shape[2] // STEP), 3)
    weight = tissue_weight(whole)
    inside = weight > 0
    edges = [cv2.Laplacian(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.CV_32F) for view in views]
    found = {
        "focus": float(np.mean([edge.std() for edge in edges])),
        "brightness": float(whole.mean()),
        "tissue": float(weight.mean()),
    }
    if inside.mean() >= LEAST_TISSUE:
        pixels = whole[inside][:, None]
        lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
        density = -np.log10((pixels.astype(np.float32) + 1) / 256)
        found |= {"density": float(density.mean()), "red": float(lab[:, 1].mean()), "yellow": float(lab[:, 2].mean())}
    return found


def ranges_of(looks: Sequence[Mapping[str, float]]) -> Looks:
    """Sum up n images, at least one; a number is left out that none of them has."""
    ranges = {}
    for name in WORDS:
        values = [look[name] for look in looks if name in look]
        if values:
            low, median, high = (round(float(v), 4) for v in np.percentile(values, (LOW, 50, HIGH)))
            ranges[name] = Range(low=low, median=median, high=high)
    return Looks(images=len(looks), ranges=ranges)


def looks_of_training(
    images: NDArray[np.uint8], widths: Sequence[float], heights: Sequence[float], most: int = MOST
) -> Looks:
    """Measure training images, at most `most`, evenly spaced.

    Parameters
    ----------
    images
        (n, views, size, size, 3) uint8, RGB.
    widths, heights
        (n,) of the files, in pixels.
    most
        At least 1.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(int))
    return ranges_of([{**look_at(images[i]), "width": float(widths[i]), "height": float(heights[i])} for i in chosen])
