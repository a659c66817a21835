"""The table of whole slides that a user names: a row for each, with its file, case and scale."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, field_validator

from biopsy.core.errors import DataError, ParamsError, SourceError, nearest
from biopsy.core.files import SLIDE_SUFFIXES
from biopsy.core.folders import is_file, names_below
from biopsy.core.matching import match_missing
from biopsy.core.rawcsv import find_column, read_records
from biopsy.core.sections.section import Section
from biopsy.core.text import fold, is_missing
from biopsy.images.slides.reader import PLAUSIBLE
from biopsy.sources.user_files import expand, user_file

SLIDES = (*SLIDE_SUFFIXES, ".tif", ".tiff")
OWN = ("path_to_image", "slide", "case", "mpp")  # columns that the tiles' table has of its own


class Wsi(Section):
    """Which slides, and which tiles of them.

    Attributes
    ----------
    csv, folder
        A table with a row for each slide, and the folder that its paths start in.
    column
        The table's column of slide files. Other columns are copied to each tile. Without a column `slide` it is the
        file's name, without `case` it is the slide; `mpp`, micrometres per pixel, overrules the file.
    regions
        The label column that is filled from the regions in `<slide>.geojson`; None: the CSV has the labels.
    um_per_pixel, px
        The scale and the side in pixels of a tile.
    most
        The most tiles of one slide; of more, evenly spread ones are taken.
    """

    csv: str | None = None
    folder: str | None = None
    column: str = "slide"
    regions: str | None = None
    um_per_pixel: float = Field(0.5, ge=PLAUSIBLE[0], le=PLAUSIBLE[1])
    px: int = Field(512, ge=32, le=4096)
    most: int = Field(200, ge=1, le=1_000_000)

    @field_validator("regions")
    @classmethod
    def _is_no_column_of_the_tiles(cls, value: str | None) -> str | None:
        if value is not None and fold(value) in OWN:
            raise ValueError(
                f"data.wsi.regions is '{value}', and the tiles have a column of that name of their own. Name another, "
                "such as label"
            )
        return value


@dataclass(frozen=True)
class Row:
    """A slide of the table: its row, as a number and in words, file, name, case, scale in the table, and other cells.

    `respelled` says how the table spells the file, if differently. `slide` is the scanned slide, of which there may be
    several files; empty: the name.
    """

    line: int
    where: str
    file: Path
    name: str
    case: str
    mpp: float | None
    cells: dict[str, str]
    respelled: str = ""
    slide: str = ""


def read_rows(settings: Wsi) -> list[Row]:
    """Read the table of slides. Raises `DataError` with the row where a slide is missing or named twice."""
    if not (settings.csv and settings.folder):
        raise ParamsError("data.source is 'wsi', which needs both data.wsi.csv and data.wsi.folder.")
    path = user_file(settings.csv, "data.wsi.csv")
    folder = expand(settings.folder, "data.wsi.folder")
    if not folder.is_dir():
        raise SourceError(
            f"data.wsi.folder: {folder} is not a folder. Set it to the folder that the slides' paths start in."
        )
    records = read_records(path, [settings.column], "slide")
    position = find_column(records.header, settings.column, "data.wsi.column", path)
    spelt = (fold(name) if fold(name) in OWN else name for name in records.header)
    twice = [name for name, times in Counter(spelt).items() if times > 1 and name]
    if twice:
        raise DataError(f"{path} has two columns '{twice[0]}'. Rename one.")
    named = [(line, cells[position] if position < len(cells) else "") for line, cells in records.rows]
    matches = match_missing({name: folder / name for _, name in named}, folder, _is_slide, ())
    rows: list[Row] = []
    for line, cells in records.rows:
        where = f"{path} row {line}"
        others = dict(zip(records.header, cells + [""] * (len(records.header) - len(cells)), strict=False))
        others.pop("", None)  # a column without a name, such as the index that pandas writes
        given = others.pop(records.header[position])
        file = folder / matches.files.get(given, given)
        if not given or not is_file(file):
            near = f" {hint}." if (hint := matches.hints.get(given)) else nearest(given, names_below(folder, _is_slide))
            raise DataError(f"{where}: the slide '{given}' is not in {folder}.{near} Correct the row.")
        own = {fold(name): others.pop(name) for name in list(others) if fold(name) in OWN}
        name = file.stem
        respelled = f"row {line}: {given} is {matches.files[given]}" if given in matches.files else ""
        case, slide = ("" if is_missing(own.get(key, "")) else own[key] for key in ("case", "slide"))
        rows.append(Row(line, where, file, name, case, _scale(own.get("mpp", ""), where), others, respelled, slide))
    for key, several in (("case", "two slides"), ("slide", "two files")):
        lacking = [row for row in rows if not getattr(row, key)]
        if 0 < len(lacking) < len(rows):
            raise DataError(
                f"{lacking[0].where}: no {key}, which other rows have ({len(lacking):,} such rows): {several} of one "
                f"{key} could be on both sides of a split. Fill in the column '{key}', or delete it."
            )
    rows = [replace(row, slide=row.slide or row.name) for row in rows]
    rows = [replace(row, case=row.case or row.slide) for row in rows]
    folded = Counter(fold(row.name) for row in rows)
    if again := [row for row in rows if folded[fold(row.name)] > 1]:
        raise DataError(
            f"{again[0].where} and {again[1].where}: two slides are called '{again[1].name}'. Rename one, or "
            "take a row away."
        )
    return rows


def _is_slide(path: Path) -> bool:
    return path.suffix.lower() in SLIDES and path.is_file()


def _scale(text: str, where: str) -> float | None:
    """Read the cell of a slide's scale; None where it is empty."""
    if is_missing(text):
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = 0.0
    if not PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
        raise DataError(
            f"{where}: mpp '{text}' is not a number of micrometres per pixel from {PLAUSIBLE[0]:g} to "
            f"{PLAUSIBLE[1]:g}. A scan at 40x has about 0.25, one at 20x 0.5."
        )
    return value
