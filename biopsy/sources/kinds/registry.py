"""The sources by name. Each is registered in the file of its code; `conf/data/` holds its preset."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from biopsy.core.errors import ParamsError, nearest
from biopsy.core.outside import Outside
from biopsy.core.params import check_section
from biopsy.core.registry import Registry
from biopsy.core.sections.data import Data
from biopsy.core.sections.section import Section


@dataclass(frozen=True)
class Source:
    """One entry of the registry.

    Attributes
    ----------
    name
        What `data.source` says, and the section of `data` with its settings.
    description
        One sentence.
    settings
        The section: its keys, their types and bounds.
    fill
        `(settings, folder, downloads) -> facts`: writes `metadata.csv` and fills the empty `images/` of `folder`; a
        download is kept below `downloads`. Returns what source.json says, made by `user_files.make_facts`.
    paths
        `settings -> the user's files`, which `dvc repro` checks each time; their copies are relative to data/raw.
    slides
        `settings -> facts about slides`, for a source that has such a table itself.
    on_engine
        Whether `fill` also takes an `engine`, where the work is done.
    """

    name: str
    description: str
    settings: type[Section]
    fill: Callable[..., dict[str, Any]]
    paths: Callable[[Any], list[Outside]] = lambda settings: []
    slides: Callable[[Any], pd.DataFrame] | None = None
    on_engine: bool = False


SOURCES = Registry[Source]("source", "data.source")
register, find = SOURCES.add, SOURCES.find


def read_settings(data: Data) -> tuple[Source, Any]:
    """Return the source that `data.source` names, and its settings.

    Raises
    ------
    ParamsError
        There is no such source, or a section of `data` belongs to no source or has a mistake.
    """
    source, sections = find(data.source), data.model_extra or {}
    for name in sections:
        if name not in SOURCES:
            raise ParamsError(f"params.yaml: unknown parameter 'data.{name}'.{nearest(name, [*SOURCES, 'slides'])}")
    given = {source.name: {}, **sections}  # a setting without a default that is missing is a sentence, too
    checked = {name: check_section(SOURCES[name].settings, value, f"data.{name}") for name, value in given.items()}
    return source, checked[source.name]
