"""Fill data/raw from the source that `data.source` names, one of `biopsy.sources.kinds`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from biopsy.core.engine import open_engine
from biopsy.core.errors import SourceError
from biopsy.core.files import write_csv
from biopsy.core.layout import RAW
from biopsy.core.outside import Outside
from biopsy.core.sections.data import Data
from biopsy.core.stores import is_address
from biopsy.sources.gather import copy_file
from biopsy.sources.kinds.registry import read_settings
from biopsy.sources.user_files import expand, user_file
from biopsy.tables.slides.slide_table import KEY, read_slides


def fill(data: Data, folder: Path, downloads: Path) -> dict[str, Any]:
    """Fill an empty folder from `data.source`.

    Parameters
    ----------
    data
        The source and its settings.
    folder
        An empty folder; afterwards it holds `metadata.csv`, `images/`, and `slides.csv` (facts about slides; no row
        where there are none).
    downloads
        Where a downloaded archive is kept.

    Returns
    -------
    dict
        For `source.json`: `source`, `synthetic`, `description`, `images` (their number), `left_out` (by reason),
        `slides`, and for BreaKHis `originals`.

    Raises
    ------
    ParamsError, SourceError, DataError
        Names the parameter, what was found there, and the way out.
    """
    source, settings = read_settings(data)
    (folder / "images").mkdir(exist_ok=True)
    given = user_file(data.slides, "data.slides") if data.slides else None
    if given:
        read_slides(given)  # before any image is copied
    if source.on_engine:
        with open_engine(data.engine) as engine:
            facts = source.fill(settings, folder, downloads, engine)
    else:
        facts = source.fill(settings, folder, downloads)
    table = folder / "slides.csv"
    if given:
        copy_file(given, table)
        told = f"facts about slides from {given.name}"
    elif source.slides:
        write_csv(table, source.slides(settings))
        told = "SYNTHETIC facts about slides, drawn by this pipeline"
    else:
        table.write_text(f"{KEY}\n", "utf-8")  # DVC wants the file of every dependency
        told = "none: data.slides is null"
    return facts | {"slides": told}


def outside_paths(data: Data) -> list[Outside]:
    """List the user's files and folders that `fill` reads, with where their copies lie in the project.

    Parameters
    ----------
    data
        The source and its settings.

    Raises
    ------
    ParamsError
        No such source, or a mistake in its settings.
    SourceError
        A folder that does not hold the source's data, or a path inside data/raw, which `fetch` replaces.
    """
    source, settings = read_settings(data)
    found = source.paths(settings)
    if data.slides:
        found.append(Outside("data.slides", expand(data.slides, "data.slides"), "slides.csv"))
    for outside in found:
        if not is_address(outside.path) and Path(outside.path).resolve().is_relative_to(RAW.resolve()):
            raise SourceError(
                f"{outside.key}: {outside.path} lies in {RAW}, which this pipeline replaces. Move it out of there."
            )
    return [replace(outside, copy=f"{RAW}/{outside.copy}" if outside.copy else None) for outside in found]
