"""The record of how a set of images looks: ranges of a few numbers, stored in the model card."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from biopsy.core.record import Record

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
SHORT = {name: words.partition(" (")[0] for name, words in WORDS.items()}
LOW, HIGH = 5, 95  # percentiles
MARGIN = 0.5  # share of the range beyond which an image is unlike training: 1 in 1,000 if values are normal
SAME = 0.05  # share of the median: a smaller difference is none where all training values are equal


class Range(Record):
    """Where a number lies over images: its median, and the 5th and 95th percentile."""

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
        return self._beyond(value, 0)

    def far(self, value: float) -> bool:
        """Say whether a value lies outside by more than half the range."""
        return self._beyond(value, MARGIN * (self.high - self.low))

    def _beyond(self, value: float, margin: float) -> bool:
        if self.low == self.high:  # files of one width, say: a pixel more is no other width
            margin = SAME * abs(self.median)
        return not self.low - margin <= value <= self.high + margin


class Looks(Record):
    """What images look like: how many were measured, and the range of each number of `WORDS` that they have."""

    images: int = Field(ge=1)
    ranges: dict[str, Range]

    def unlike(self, look: Mapping[str, float]) -> list[str]:
        """Name the numbers of one image that lie far outside these ranges; unknown numbers do not count."""
        return [name for name in WORDS if name in self.ranges and name in look and self.ranges[name].far(look[name])]


def ranges_of(looks: Sequence[Mapping[str, float]]) -> Looks:
    """Summarise n images, at least one; a number that no image has is left out."""
    ranges = {}
    for name in WORDS:
        values = [look[name] for look in looks if name in look]
        if values:
            low, median, high = (round(float(v), 4) for v in np.percentile(values, (LOW, 50, HIGH)))
            ranges[name] = Range(low=low, median=median, high=high)
    return Looks(images=len(looks), ranges=ranges)
