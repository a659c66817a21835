"""BreaKHis: the official archive, or a copy of it that the user has."""

import csv
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field

from biopsy.core.errors import SourceError, some
from biopsy.core.folders import is_image
from biopsy.core.outside import Outside
from biopsy.core.sections.section import Section
from biopsy.sources.archive import KINDS, unpack
from biopsy.sources.gather import copy_file, copy_images
from biopsy.sources.kinds.registry import Source, register
from biopsy.sources.originals import compare, known
from biopsy.sources.user_files import UNNAMED, counted, expand, gather, keep_named, make_facts, named_by, user_file
from biopsy.sources.web.download import download
from biopsy.tables.labels import breakhis

SLIDES = "histology_slides"
TREE = PurePosixPath("BreaKHis_v1", SLIDES)
COLUMNS = ("path_to_image", "Benign or Malignant", "Cancer Type", "Magnification")  # the course CSV's
BY_HAND = "Or fetch the archive by other means and set data.breakhis.path to where it lies."


class Breakhis(Section):
    """Where the official archive, or a copy of it, and an optional CSV come from."""

    url: str = Field("http://www.inf.ufpr.br/vri/databases/BreaKHis_v1.tar.gz", pattern=r"^https?://")
    path: str | None = None
    csv: str | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    max_gb: float = Field(8.0, gt=0, le=100_000)


def fill(settings: Breakhis, folder: Path, downloads: Path) -> dict[str, Any]:
    """Copy or unpack the images; copy the CSV, or write one from the file names."""
    csv_file = user_file(settings.csv, "data.breakhis.csv") if settings.csv else None
    images = folder / "images"
    given = _archive(settings, downloads) if settings.path is None else expand(settings.path, "data.breakhis.path")
    if given.is_dir():
        root = _slides_folder(given)
        found, left_out = gather(root, folder, "data.breakhis.path")
        found, unnamed = keep_named(found, csv_file)
        left_out.update(unnamed)
        copy_images(root, found, images / TREE)
        paths = [str(TREE / path) for path in found]
    elif given.is_file():
        paths, left_out = unpack(given, images, _placer(csv_file), int(settings.max_gb * 1e9))
    else:
        raise SourceError(
            f"data.breakhis.path: {given} is missing. Set it to a folder or an archive ({KINDS}); null downloads it."
        )
    named = [path for path in paths if breakhis.parse(path)]
    if not named:
        raise SourceError(
            f"{given} has no image with a BreaKHis name below {SLIDES} ({len(paths)} other images, "
            f"{counted(left_out) or 'nothing else'}). Other images: set data.source to local."
        )
    if csv_file:
        copy_file(csv_file, folder / "metadata.csv")
    else:
        _write_table(named, folder / "metadata.csv")
        left_out["name not of BreaKHis (in images/, not in metadata.csv)"] = len(paths) - len(named)
    originals = compare(images, paths)
    facts = make_facts("breakhis", f"BreaKHis, {len(paths):,} images; {originals}", len(paths), left_out)
    facts["originals"] = {
        "sentence": str(originals),
        "original": originals.original,
        "altered": len(originals.altered),
        "unknown": len(originals.unknown),
        f"absent_of_{len(known())}": originals.absent,
        "altered_files": originals.altered,
        "unknown_files": originals.unknown,
    }
    return facts


def paths(settings: Breakhis) -> list[Outside]:
    """List what the user has: the archive or the folder, and the CSV."""
    found = []
    if settings.path:
        given, copy = expand(settings.path, "data.breakhis.path"), None
        if given.is_dir():
            given, copy = _slides_folder(given), f"images/{TREE}"
        found.append(Outside("data.breakhis.path", given, copy))
    if settings.csv:
        found.append(Outside("data.breakhis.csv", expand(settings.csv, "data.breakhis.csv"), "metadata.csv"))
    return found


def _archive(settings: Breakhis, downloads: Path) -> Path:
    """Return the downloaded archive's path, downloading it first where it is not whole yet."""
    name = PurePosixPath(unquote(urlsplit(settings.url).path)).name
    target = downloads / (name if name not in ("", "..") else "archive.tar.gz")
    download(settings.url, target, limit=int(settings.max_gb * 1e9), hint=BY_HAND, sha256=settings.sha256)
    return target


def _slides_folder(folder: Path) -> Path:
    """Return the one `histology_slides`, which is `folder` or lies at most three levels below it."""
    if folder.resolve().name == SLIDES:
        return folder
    found: list[Path] = []
    for depth in range(3):
        found = sorted(path for path in folder.glob("*/" * depth + SLIDES) if path.is_dir())
        if found:
            break
    if len(found) > 1:
        raise SourceError(f"data.breakhis.path: {folder} has several copies: {some(found)}. Name one of them.")
    if not found:
        raise SourceError(
            f"data.breakhis.path: no folder {SLIDES} in {folder}, nor one or two levels down. Set it to BreaKHis_v1."
        )
    return found[0]


def _placer(csv_file: Path | None) -> Callable[[PurePosixPath], PurePosixPath | str]:
    """Return a function from an archive's file to its place in the official tree, or why it is left out."""
    named = named_by(csv_file)

    def place(path: PurePosixPath) -> PurePosixPath | str:
        if not is_image(path.name):
            return "not an image"
        if SLIDES not in path.parts[:-1]:
            return f"not below {SLIDES}"
        return TREE.joinpath(*path.parts[path.parts.index(SLIDES) + 1 :]) if named(path.name) else UNNAMED

    return place


def _write_table(paths: list[str], target: Path) -> None:
    """Write the course CSV's columns, read off the file names."""
    with target.open("x", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for path in paths:
            name = breakhis.parse(path)
            assert name is not None
            type_name = breakhis.TYPES[name.subtype][1].title()
            writer.writerow([path, name.label.title(), type_name, f"{name.magnification}X"])


register(Source("breakhis", "7,909 images of 81 slides, CC BY 4.0.", Breakhis, fill, paths))
