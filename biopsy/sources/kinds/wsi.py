"""Whole slides: tiles cut from their tissue, labelled by a CSV of slides or by regions drawn in QuPath."""

import csv
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from biopsy.core.engine import LOCAL, Engine, check_opencv
from biopsy.core.errors import DataError, SourceError, naming, some, warn
from biopsy.core.files import LISTED
from biopsy.core.outside import Outside
from biopsy.core.rawcsv import OWN_ROW
from biopsy.images.slides.reader import Slide, open_slide
from biopsy.images.slides.regions import Region, class_at, read_regions
from biopsy.images.slides.tissue import Cut, Tile, cut, look_over
from biopsy.sources.kinds.registry import Source, register
from biopsy.sources.slide_table import OWN, Row, Wsi, read_rows
from biopsy.sources.user_files import counted, expand, make_facts

FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
AT_ONCE = 2**21  # pixels of the tiles of one call: eight of 512 px
APART = 1.1  # how much the table's scale may differ from the file's without a warning
T = TypeVar("T")


def fill(settings: Wsi, folder: Path, downloads: Path, engine: Engine = LOCAL) -> dict[str, Any]:
    """Cut the tiles, and write a table with a row for each. Other machines of `engine` must see the slides' folder."""
    rows = read_rows(settings)
    here = engine is LOCAL
    width = 1 if here else engine.width
    rows = rows if here else [replace(row, file=row.file.absolute()) for row in rows]
    left_out, apart = Counter[str](), list[str]()
    columns = list(dict.fromkeys([OWN_ROW, *OWN, *rows[0].cells, *([settings.regions] if settings.regions else [])]))
    count = 0
    with (
        (folder / "metadata.csv").open("x", encoding="utf-8", newline="") as stream,
        ThreadPoolExecutor(width) as pool,
        tqdm(total=len(rows), desc="cut tiles", unit="slide") as bar,
    ):
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for some_rows in _chunks(rows, width):
            parts: list[Part] = []
            chosen = pool.map(lambda row: engine.call(choose, row, settings), some_rows)
            for row, (kept, reasons, said) in zip(some_rows, chosen, strict=True):
                left_out.update(reasons)
                if row.mpp and said and not 1 / APART <= row.mpp / said <= APART:
                    apart.append(f"row {row.line}: {row.mpp:g}, {row.file.name}: {said:g}")
                some_tiles = _chunks(kept, max(1, AT_ONCE // settings.px**2))
                parts += [Part(row, settings, tiles, cv2.__version__) for tiles in some_tiles]
            for some_parts in _chunks(parts, 2 * width):  # so many are in memory
                answers = pool.map(lambda part: engine.call(cut_out, part), some_parts)
                for part, images in zip(some_parts, answers, strict=True):
                    written = list(_write(part, images, folder / "images"))
                    writer.writerows(written)
                    count += len(written)
                    left_out["tile that cannot be read"] += len(images) - len(written)
            bar.update(len(some_rows))
    if not count:
        raise SourceError(f"data.wsi.csv: its {len(rows)} slides give no tile ({counted(+left_out)}).")
    if apart:
        warn(
            f"data.wsi.csv: the mpp of {len(apart):,} of {len(rows):,} slides is not what their files say "
            f"({some(apart, 3)}). The table counts; empty its cells where the files are right."
        )
    facts = f"{count:,} tiles of {len(rows):,} whole slides, {settings.px} px of {settings.um_per_pixel:g} um"
    respelled = [row.respelled for row in rows if row.respelled]
    matched = {"count": len(respelled), "listed": respelled[:LISTED]}
    scales = {"count": len(apart), "listed": apart[:LISTED]}
    return make_facts("wsi", facts, count, left_out) | {"matched_loosely": matched, "mpp_not_of_file": scales}


def _chunks(items: list[T], size: int) -> list[list[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


@dataclass(frozen=True)
class Part:
    """Some tiles of a slide with their labels, and the version of OpenCV that every machine must have."""

    row: Row
    settings: Wsi
    tiles: list[tuple[Tile, str]]
    opencv: str


def choose(row: Row, settings: Wsi) -> tuple[list[tuple[Tile, str]], Counter[str], float | None]:
    """Choose the tiles of a slide, each with its label (empty if the CSV has it), and count what is left out.

    Also return the file's own scale in micrometres per pixel.
    """
    left_out: Counter[str] = Counter()
    slide = open_slide(row.file)
    tiles = find_tiles(slide, row, settings)
    if not tiles:
        left_out["slide without tissue"] += 1
    regions = _regions(row) if settings.regions else None
    kept: list[tuple[Tile, str]] = []
    for tile in tiles:
        label = class_at(regions, tile.x + tile.width / 2, tile.y + tile.height / 2) if regions is not None else ""
        if label is None:
            left_out["tile in no region, or in regions of two classes"] += 1
        else:
            kept.append((tile, label))
    if len(kept) > settings.most:
        left_out["tile beyond data.wsi.most"] += len(kept) - settings.most
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, settings.most).round().astype(int)]
    return kept, left_out, slide.um_per_pixel


def cut_out(part: Part) -> list[bytes | None]:
    """Return the tiles as PNG, None for one that cannot be read. Raises `MachineError` with another OpenCV."""
    check_opencv(part.opencv)
    slide, images = open_slide(part.row.file), list[bytes | None]()
    for tile, _ in part.tiles:
        try:
            pixels = slide.region(tile.x, tile.y, tile.width, tile.height, (part.settings.px, part.settings.px))
        except DataError:
            images.append(None)
            continue
        images.append(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), FAST)[1].tobytes())
    return images


def _write(part: Part, images: list[bytes | None], folder: Path) -> Iterator[dict[str, Any]]:
    """Write the tiles that could be read; yield a row of the table for each."""
    row, settings = part.row, part.settings
    for (tile, label), content in zip(part.tiles, images, strict=True):
        if content is None:
            continue
        name = f"{row.name}/{row.name}-x{tile.x}-y{tile.y}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with naming(folder / name):
            (folder / name).write_bytes(content)
        own = {
            OWN_ROW: row.line,
            "path_to_image": name,
            "slide": row.slide,
            "case": row.case,
            "mpp": settings.um_per_pixel,
        }
        yield row.cells | own | ({settings.regions: label} if settings.regions else {})


def find_tiles(slide: Slide, row: Row, settings: Wsi) -> list[Tile]:
    """List the tiles with tissue. Raises `DataError` for a slide without a scale, or smaller than a tile."""
    own = row.mpp or slide.um_per_pixel
    if not own:
        raise DataError(
            f"{row.where}: {row.file} does not say how many micrometres a pixel is. Add a column 'mpp' "
            "to the table: about 0.25 for a scan at 40x, 0.5 at 20x."
        )
    side = settings.px * settings.um_per_pixel / own
    if side > min(slide.width, slide.height):
        raise DataError(
            f"{row.where}: {row.file} has {slide.width}x{slide.height} pixels, fewer than one tile of "
            f"{side:.0f}. Set a smaller data.wsi.px, or take the row away."
        )
    return list(cut(slide, look_over(slide), Cut(side, side, (settings.px, settings.px), own, settings.um_per_pixel)))


def _regions(row: Row) -> list[Region]:
    file = row.file.with_suffix(".geojson")
    if not file.is_file():
        raise DataError(
            f"{row.where}: {file} is missing. Export the slide's annotations from QuPath as GeoJSON, or set "
            "data.wsi.regions to null."
        )
    regions = read_regions(file)
    if not regions:
        raise DataError(f"{file} has no polygon with a class. Set the annotations' classes in QuPath and export again.")
    return regions


def paths(settings: Wsi) -> list[Outside]:
    """List the table, the slides and their regions."""
    if not settings.csv:
        return []
    found = [Outside("data.wsi.csv", expand(settings.csv, "data.wsi.csv"), "metadata.csv")]
    for row in read_rows(settings):
        found.append(Outside(f"data.wsi.folder: {row.name}", row.file))
        regions = row.file.with_suffix(".geojson")
        if settings.regions and regions.is_file():
            found.append(Outside(f"data.wsi.regions: {row.name}", regions))
    return found


register(Source("wsi", "Tiles of whole slides.", Wsi, fill, paths, on_engine=True))
