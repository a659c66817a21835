"""Any CSV and any folder of images."""

from pathlib import Path
from typing import Any

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.outside import Outside
from biopsy.core.sections import Section
from biopsy.sources.gather import copy_file, copy_images
from biopsy.sources.kinds.registry import Source, register
from biopsy.sources.user_files import counted, expand, gather, keep_named, make_facts, user_file


class Local(Section):
    """Any CSV and any folder."""

    csv: str | None = None
    images: str | None = None


def fill(settings: Local, folder: Path, downloads: Path) -> dict[str, Any]:
    """Copy the images and the CSV."""
    csv, images = _given(settings)
    csv_file = user_file(csv, "data.local.csv")
    root = expand(images, "data.local.images")
    if not root.is_dir():
        raise SourceError(
            f"data.local.images: {root} is not a folder. Set it to the folder that the CSV's paths start in."
        )
    paths, left_out = gather(root, folder, "data.local.images")
    if not paths:
        raise SourceError(f"data.local.images: no image lies below {root} ({counted(left_out) or 'it is empty'}).")
    paths, unnamed = keep_named(paths, csv_file)
    copy_images(root, paths, folder / "images")
    copy_file(csv_file, folder / "metadata.csv")
    return make_facts("local", f"{len(paths):,} images from a folder, with a CSV", len(paths), left_out | unnamed)


def paths(settings: Local) -> list[Outside]:
    """List the CSV and the folder."""
    csv, images = _given(settings)
    return [
        Outside("data.local.csv", expand(csv, "data.local.csv"), "metadata.csv"),
        Outside("data.local.images", expand(images, "data.local.images"), "images"),
    ]


def _given(settings: Local) -> tuple[str, str]:
    if not (settings.csv and settings.images):
        raise ParamsError("data.source is 'local', which needs both data.local.csv and data.local.images.")
    return settings.csv, settings.images


register(Source("local", "Any CSV and any folder of images.", Local, fill, paths))
