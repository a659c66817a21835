"""The embedded sample: synthetic images that the pipeline draws itself."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from biopsy.core.sections.section import Section
from biopsy.sources.kinds.registry import Source, register
from biopsy.sources.sample.draw import draw_sample, slides_of
from biopsy.sources.sample.slides import draw_slides
from biopsy.sources.user_files import make_facts


class Sample(Section):
    """The synthetic images that `fetch` draws."""

    images: int = Field(360, ge=48, le=100_000)
    width: int = Field(220, ge=64, le=2048)
    height: int = Field(144, ge=64, le=2048)
    seed: int = Field(0, ge=0, lt=2**31)


def fill(settings: Sample, folder: Path, downloads: Path) -> dict[str, Any]:
    """Draw the images and their table."""
    count = draw_sample(folder, settings.images, settings.width, settings.height, settings.seed)["images"]
    description = f"{count} SYNTHETIC images drawn by this pipeline (seed {settings.seed}): no tissue, no patient"
    return make_facts("sample", description, count, {}, synthetic=True)


def slides(settings: Sample) -> pd.DataFrame:
    """Draw the table of slides."""
    return draw_slides(slides_of(settings.images), settings.seed)


register(Source("sample", "Images drawn by the pipeline itself.", Sample, fill, slides=slides))
