"""Any folder of images, with a CSV or class folders, on this machine or in an object store."""

from pathlib import Path
from typing import Any

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.files import IMAGE_SUFFIXES
from biopsy.core.outside import Outside
from biopsy.core.sections.section import Section
from biopsy.core.stores import is_address
from biopsy.sources.folder_table import leave_hidden, write_folder_table
from biopsy.sources.gather import copy_file, copy_images
from biopsy.sources.kinds.registry import Source, register
from biopsy.sources.objects import fetch_file, fetch_objects, find_objects
from biopsy.sources.user_files import counted, expand, gather, keep_named, make_facts, odd_files, user_file

CSV, IMAGES = "data.local.csv", "data.local.images"


class Local(Section):
    """Any folder, and a CSV; without a CSV the folders are the labels."""

    csv: str | None = None
    images: str | None = None


def fill(settings: Local, folder: Path, downloads: Path) -> dict[str, Any]:
    """Copy the images and the CSV, or write a CSV from the folders of the images."""
    csv, images = settings.csv, _images(settings)
    csv_file = (fetch_file(csv, CSV, downloads) if is_address(csv) else user_file(csv, CSV)) if csv else None
    objects = {}
    if is_address(images):
        listed, left_out = find_objects(images, IMAGES)
        objects = {found.name: found for found in listed}
        paths = list(objects)
    else:
        root = expand(images, IMAGES)
        if not root.is_dir():
            which = "that the CSV's paths start in" if csv else "that has a folder for each class"
            raise SourceError(f"{IMAGES}: {root} is not a folder. Set it to the folder {which}.")
        paths, left_out = gather(root, folder, IMAGES)
    paths, unnamed = keep_named(paths, csv_file) if csv_file else leave_hidden(paths)
    left_out.update(unnamed)
    if not paths:
        kinds = f" Images are {', '.join(IMAGE_SUFFIXES)}; make others, such as DICOM, PNGs."
        raise SourceError(
            f"{IMAGES}: no image lies below {images} ({counted(left_out) or 'it is empty'})."
            + (kinds if left_out.get("not an image") else "")
        )
    if csv_file:
        copy_file(csv_file, folder / "metadata.csv")
    else:
        write_folder_table(paths, folder / "metadata.csv", f"{IMAGES}: {images}")
    if objects:
        root = fetch_objects(images, [objects[path] for path in paths], IMAGES, downloads)
    copy_images(root, paths, folder / "images")
    told = "from a folder, with a CSV" if csv else "labelled by the folders they lie in"
    facts = make_facts("local", f"{len(paths):,} images {told}", len(paths), left_out)
    return facts | ({"not_files": odd} if csv_file and not objects and (odd := odd_files(root, csv_file)) else {})


def paths(settings: Local) -> list[Outside]:
    """List the CSV and the folder, which stands for the table where there is no CSV."""
    images = _images(settings)
    root = images if is_address(images) else expand(images, IMAGES)
    found = [Outside(IMAGES, root, "images")]
    if csv := settings.csv:
        return [Outside(CSV, csv if is_address(csv) else expand(csv, CSV), "metadata.csv"), *found]
    return [*found, Outside(f"{IMAGES}: labels", root, "metadata.csv")]


def _images(settings: Local) -> str:
    if not settings.images:
        raise ParamsError(
            "data.source is 'local', which needs data.local.images, the folder of images, and data.local.csv, their "
            "table, unless each class has a folder of its own."
        )
    return settings.images


register(Source("local", "Any folder of images, with a CSV or a folder for each class.", Local, fill, paths))
