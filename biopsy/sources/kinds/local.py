"""Any CSV and any folder of images, on this machine or in an object store."""

from pathlib import Path
from typing import Any

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.outside import Outside
from biopsy.core.sections.section import Section
from biopsy.core.stores import is_address
from biopsy.sources.gather import copy_file, copy_images
from biopsy.sources.kinds.registry import Source, register
from biopsy.sources.objects import fetch_file, fetch_objects, find_objects
from biopsy.sources.user_files import counted, expand, gather, keep_named, make_facts, user_file

CSV, IMAGES = "data.local.csv", "data.local.images"


class Local(Section):
    """Any CSV and any folder."""

    csv: str | None = None
    images: str | None = None


def fill(settings: Local, folder: Path, downloads: Path) -> dict[str, Any]:
    """Copy the images and the CSV."""
    csv, images = _given(settings)
    csv_file = fetch_file(csv, CSV, downloads) if is_address(csv) else user_file(csv, CSV)
    objects = {}
    if is_address(images):
        listed, left_out = find_objects(images, IMAGES)
        objects = {found.name: found for found in listed}
        paths = list(objects)
    else:
        root = expand(images, IMAGES)
        if not root.is_dir():
            raise SourceError(f"{IMAGES}: {root} is not a folder. Set it to the folder that the CSV's paths start in.")
        paths, left_out = gather(root, folder, IMAGES)
    if not paths:
        raise SourceError(f"{IMAGES}: no image lies below {images} ({counted(left_out) or 'it is empty'}).")
    paths, unnamed = keep_named(paths, csv_file)
    if objects:
        root = fetch_objects(images, [objects[path] for path in paths], IMAGES, downloads)
    copy_images(root, paths, folder / "images")
    copy_file(csv_file, folder / "metadata.csv")
    return make_facts("local", f"{len(paths):,} images from a folder, with a CSV", len(paths), left_out | unnamed)


def paths(settings: Local) -> list[Outside]:
    """List the CSV and the folder."""
    csv, images = _given(settings)
    return [
        Outside(CSV, csv if is_address(csv) else expand(csv, CSV), "metadata.csv"),
        Outside(IMAGES, images if is_address(images) else expand(images, IMAGES), "images"),
    ]


def _given(settings: Local) -> tuple[str, str]:
    if not (settings.csv and settings.images):
        raise ParamsError("data.source is 'local', which needs both data.local.csv and data.local.images.")
    return settings.csv, settings.images


register(Source("local", "Any CSV and any folder of images.", Local, fill, paths))
