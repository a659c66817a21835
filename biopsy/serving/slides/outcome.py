"""What is made of a slide's table: regions for QuPath, a heat map, a summary."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from biopsy.core.files import atomic_file
from biopsy.images.slides.tissue import Cut, Overview
from biopsy.networks.model_file import NOTICE, Card

COLOURS = "viridis"  # uniform to the eye, also to a colour-blind one, and unlike the stains
LOST = -1.0  # in place of a probability, where a tile cannot be read
GREY = (120, 120, 120)  # what shows it
DRAWN = 1000  # pixels of the longer side of the heat map
Rows = Iterable[dict[str, str]]


def shown_classes(card: Card) -> list[str]:
    """Return the classes whose probability the heat map shows: the positive ones, else the last."""
    return list(card.labels[card.task].positive) or card.classes[-1:]


class Totals:
    """What the summary and the heat map need of the rows, which pass once; constant but for a number a tile."""

    def __init__(self, card: Card, cut: Cut, slide_size: tuple[int, int]) -> None:
        self._card, self._cut, self._shown = card, cut, shown_classes(card)
        columns, rows = int(slide_size[0] / cut.width + 1e-6), int(slide_size[1] / cut.height + 1e-6)
        self.heat = np.full((rows, columns), np.nan, np.float32)
        self.failed = self.tiles = 0
        self._tissue = dict.fromkeys(card.classes, 0.0)
        self._count = dict.fromkeys(card.classes, 0)
        self._sums = dict.fromkeys(card.classes, 0.0)

    def over(self, rows: Rows) -> Iterator[dict[str, str]]:
        """Pass rows on."""
        for row in rows:
            self.tiles += 1
            place = round(int(row["y"]) / self._cut.height), round(int(row["x"]) / self._cut.width)
            if row["error"]:
                self.failed += 1
                self.heat[place] = LOST
            else:
                self._count[row["predicted"]] += 1
                self._tissue[row["predicted"]] += float(row["tissue"])
                for name in self._card.classes:
                    self._sums[name] += float(row[f"p_{name}"])
                self.heat[place] = sum(float(row[f"p_{name}"]) for name in self._shown)
            yield row

    def summary(self) -> dict[str, Any]:
        """Give counts, areas and means by class; None where there is nothing to divide by."""
        answered, tissue = self.tiles - self.failed, sum(self._tissue.values())
        area = self._cut.width * self._cut.height * (self._cut.slide_um or 0) ** 2 / 1e6
        return {
            "tiles": self.tiles,
            "tiles_without_prediction": self.failed,
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


def draw_heatmap(overview: Overview, totals: Totals, card: Card, cut: Cut, title: str) -> Figure:
    """Lay the probability of the shown classes on the grey overview; what has no tile keeps its colours."""
    words = card.labels[card.task].words
    height, width = overview.image.shape[:2]
    shrink = max(1.0, max(height, width) / DRAWN)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    image = np.asarray(cv2.resize(overview.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    (height, width), step = image.shape[:2], overview.step * shrink
    rows = ((np.arange(height) + 0.5) * step / cut.height).astype(int)
    columns = ((np.arange(width) + 0.5) * step / cut.width).astype(int)
    padded = np.pad(totals.heat, (0, 1), constant_values=np.nan)  # the edge that no whole tile covers
    heat = padded[np.minimum(rows, totals.heat.shape[0])][:, np.minimum(columns, totals.heat.shape[1])]
    figure = Figure((10, min(max(8.5 * height / width + 1.4, 3), 14)), layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    axes.imshow(_mixed(image, heat))
    axes.set_axis_off()
    figure.suptitle(title, parse_math=False)
    label = " or ".join(words[name] for name in shown_classes(card))
    label = label if len(label) <= 60 else f"{len(shown_classes(card))} positive classes together"
    figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, label=f"probability of {label}", shrink=0.9)
    lost = f" Grey: {totals.failed:,} tiles could not be predicted." if totals.failed else ""
    figure.supxlabel(
        f"{totals.tiles - totals.failed:,} tiles; no colour: less than half of it tissue.{lost} {NOTICE}",
        fontsize="small",
    )
    return figure


def _mixed(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    colours = colormaps[COLOURS](np.nan_to_num(heat), bytes=True)[..., :3]
    laid = np.round(0.3 * grey + 0.7 * colours).astype(np.uint8)
    laid[heat == LOST] = GREY
    return np.where(np.isnan(heat)[..., None], image, laid)
