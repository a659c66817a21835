"""What is made of a slide's table: regions for QuPath, a heat map, a summary."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from biopsy.core.files import atomic_file
from biopsy.images.slides.tissue import Cut
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.about import LOOKS
from biopsy.serving.predict.tables import WHOLE, is_share, write_table
from biopsy.serving.slides.heat import LOST, Heat

WARNED = 0.1  # of the tiles: at the edge of the tissue, and on folds, some look odd on any slide
Rows = Iterable[dict[str, str]]


def shown_classes(card: Card) -> list[str]:
    """Return the classes whose probability the heat map shows: the positive ones, else the last."""
    return list(card.labels[card.task].positive) or card.classes[-1:]


def shown_in_words(card: Card) -> str:
    """Say what the heat map shows."""
    shown = shown_classes(card)
    named = " or ".join(card.labels[card.task].words[name] for name in shown)
    return f"probability of {named if len(named) <= 60 else f'{len(shown)} positive classes together'}"


class Totals:
    """What the summary and the heat map need of the rows, which pass once; constant but for a number a tile."""

    def __init__(self, card: Card, cut: Cut, slide_size: tuple[int, int]) -> None:
        self._card, self._cut, self._shown = card, cut, shown_classes(card)
        self.heat = Heat(cut, slide_size)
        self.failed = self.tiles = self.unlike = 0
        self._differs, self._compared = Counter[str](), False
        self._tissue = dict.fromkeys(card.classes, 0.0)
        self._count = dict.fromkeys(card.classes, 0)
        self._sums = dict.fromkeys(card.classes, 0.0)

    def over(self, rows: Rows) -> Iterator[dict[str, str]]:
        """Pass rows on."""
        for row in rows:
            self.tiles += 1
            named = row.get("unlike_training", "").split()
            self._compared |= "unlike_training" in row
            self.unlike += bool(named)
            self._differs.update(named)
            place = int(row["x"]), int(row["y"])
            if row["error"]:
                self.failed += 1
                self.heat.add(*place, LOST)
            else:
                self._count[row["predicted"]] += 1
                self._tissue[row["predicted"]] += float(row["tissue"])
                for name in self._card.classes:
                    self._sums[name] += float(row[f"p_{name}"])
                self.heat.add(*place, sum(float(row[f"p_{name}"]) for name in self._shown))
            yield row

    @property
    def warning(self) -> str:
        """Say how many tiles look unlike the training images, and in what; empty where few do."""
        if not self.unlike or self.unlike < WARNED * self.tiles:
            return ""
        (most, _), *_ = self._differs.most_common(1)
        return f"{self.unlike:,} of {self.tiles:,} tiles look unlike the training images (most often: {LOOKS[most]})"

    def summary(self) -> dict[str, Any]:
        """Give counts, areas and means by class; None where there is nothing to divide by."""
        answered, tissue = self.tiles - self.failed, sum(self._tissue.values())
        area = math.prod(self._cut.stride) * (self._cut.slide_um or 0) ** 2 / 1e6  # what a tile adds to those before
        return {
            "tiles": self.tiles,
            "tile_overlap": self._cut.overlap,
            "tiles_without_prediction": self.failed,
            "tiles_unlike_training": self.unlike if self._compared else None,
            "classes": {
                name: {
                    "tiles": self._count[name],
                    "area_share": round(self._tissue[name] / tissue, 6) if tissue else None,
                    "area_mm2": round(self._tissue[name] * area, 6) if area else None,
                    "mean_probability": round(self._sums[name] / answered, 6) if answered else None,
                }
                for name in self._card.classes
            },
        }


def write_tiles(path: Path, rows: Rows) -> None:
    """Write the tiles as a Parquet table."""

    def typed(name: str, value: str) -> Any:
        if name in WHOLE:
            return int(value)
        return float(value) if value and is_share(name) else value

    write_table(([{name: typed(name, value) for name, value in row.items()}] for row in rows), path)


def write_geojson(path: Path, rows: Rows, card: Card) -> None:
    """Write a polygon for each tile with a prediction, as QuPath reads it, in pixels at full resolution."""
    task = card.labels[card.task]
    classes = {
        name: {"name": task.words[name], "color": [int(task.colours[name][i : i + 2], 16) for i in (1, 3, 5)]}
        for name in card.classes
    }
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        head = json.dumps({"type": "FeatureCollection", "notice": NOTICE})
        stream.write(head[:-1] + ', "features": [')
        comma = "\n"
        for row in rows:
            if row["error"]:
                continue
            left, top = int(row["x"]), int(row["y"])
            right, bottom = left + int(row["width"]), top + int(row["height"])
            ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
            numbers = {"tissue": float(row["tissue"])} | {f"p_{n}": float(row[f"p_{n}"]) for n in card.classes}
            about = {"objectType": "tile", "classification": classes[row["predicted"]], "measurements": numbers}
            feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": about}
            stream.write(comma + json.dumps(feature, ensure_ascii=False))
            comma = ",\n"
        stream.write("\n]}\n")
