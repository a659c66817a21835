"""Where images come from: drawn here, the BreaKHis archive or a copy of it, or any CSV and any folder.

Each source fills a folder with `metadata.csv` and `images/` and returns what `source.json` says about them.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from biopsy.core.errors import SourceError, some
from biopsy.core.files import write_csv
from biopsy.core.outside import Outside
from biopsy.core.sections import Breakhis, Data, Sample
from biopsy.sources.archive import KINDS, unpack
from biopsy.sources.download import download
from biopsy.sources.gather import copy_file, copy_images, find_images, is_image
from biopsy.sources.originals import compare, known
from biopsy.sources.sample.draw import draw_sample, slides_of
from biopsy.sources.sample.slides import draw_slides
from biopsy.tables.labels import breakhis
from biopsy.tables.slides.slide_table import KEY, read_slides

RAW = Path("data/raw")
SLIDES = "histology_slides"
TREE = PurePosixPath("BreaKHis_v1", SLIDES)
COLUMNS = ("path_to_image", "Benign or Malignant", "Cancer Type", "Magnification")  # the course CSV's
BY_HAND = "Or fetch the archive by other means and set data.breakhis.path to where it lies."


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
    SourceError, DataError
        Names the parameter, what was found there, and the way out.
    """
    (folder / "images").mkdir(exist_ok=True)
    slides = _file(data.slides, "data.slides") if data.slides else None
    if slides:
        read_slides(slides)  # before any image is copied
    if data.source == "sample":
        facts = _sample(data.sample, folder)
    elif data.source == "local":
        facts = _local(data, folder)
    else:
        facts = _breakhis(data.breakhis, folder, downloads)
    return facts | {"slides": _slide_table(slides, data, folder / "slides.csv")}


def outside_paths(data: Data) -> list[Outside]:
    """List the user's files and folders that `fill` reads, with where their copies lie in the project.

    Parameters
    ----------
    data
        The source and its settings.

    Raises
    ------
    SourceError
        A folder without BreaKHis, or a path inside data/raw, which `fetch` replaces.
    """
    named: list[tuple[str, str | None, str | None]] = [("data.slides", data.slides, "slides.csv")]
    if data.source == "local":
        named += [
            ("data.local.csv", data.local.csv, "metadata.csv"),
            ("data.local.images", data.local.images, "images"),
        ]
    if data.source == "breakhis":
        path, copy = data.breakhis.path, None
        if path and (folder := _expand(path, "data.breakhis.path")).is_dir():
            path, copy = str(_slides_folder(folder)), f"images/{TREE}"
        named += [("data.breakhis.csv", data.breakhis.csv, "metadata.csv"), ("data.breakhis.path", path, copy)]
    found = [Outside(key, _expand(path, key), copy and f"{RAW}/{copy}") for key, path, copy in named if path]
    for outside in found:
        if outside.path.resolve().is_relative_to(RAW.resolve()):
            raise SourceError(
                f"{outside.key}: {outside.path} lies in {RAW}, which this pipeline replaces. Move it out of there."
            )
    return found


def _slide_table(given: Path | None, data: Data, target: Path) -> str:
    """Write the table of slides, the user's, the sample's or an empty one; say what it is."""
    if given:
        copy_file(given, target)
    elif data.source == "sample":
        write_csv(target, draw_slides(slides_of(data.sample.images), data.sample.seed))
        return "SYNTHETIC facts about slides, drawn by this pipeline"
    else:
        target.write_text(f"{KEY}\n", "utf-8")  # DVC wants the file of every dependency
        return "none: data.slides is null"
    return f"facts about slides from {given.name}"


def _sample(settings: Sample, folder: Path) -> dict[str, Any]:
    count = draw_sample(folder, settings.images, settings.width, settings.height, settings.seed)["images"]
    description = f"{count} SYNTHETIC images drawn by this pipeline (seed {settings.seed}): no tissue, no patient"
    return _facts("sample", description, count, {}, synthetic=True)


def _local(data: Data, folder: Path) -> dict[str, Any]:
    csv_file = _file(data.local.csv, "data.local.csv")
    root = _expand(data.local.images or "", "data.local.images")
    if not root.is_dir():
        raise SourceError(
            f"data.local.images: {root} is no folder. Set it to the folder that the CSV's paths start in."
        )
    paths, left_out = _gather(root, folder, "data.local.images")
    if not paths:
        raise SourceError(f"data.local.images: no image lies below {root} ({_counted(left_out) or 'it is empty'}).")
    copy_images(root, paths, folder / "images")
    copy_file(csv_file, folder / "metadata.csv")
    return _facts("local", f"{len(paths):,} images from a folder, with a CSV", len(paths), left_out)


def _breakhis(settings: Breakhis, folder: Path, downloads: Path) -> dict[str, Any]:
    csv_file = _file(settings.csv, "data.breakhis.csv") if settings.csv else None
    images = folder / "images"
    given = _archive(settings, downloads) if settings.path is None else _expand(settings.path, "data.breakhis.path")
    if given.is_dir():
        root = _slides_folder(given)
        found, left_out = _gather(root, folder, "data.breakhis.path")
        copy_images(root, found, images / TREE)
        paths = [str(TREE / path) for path in found]
    elif given.is_file():
        paths, left_out = unpack(given, images, _place, int(settings.max_gb * 1e9))
    else:
        raise SourceError(
            f"data.breakhis.path: {given} is missing. Set it to a folder or an archive ({KINDS}); null downloads it."
        )
    named = [path for path in paths if breakhis.parse(path)]
    if not named:
        raise SourceError(
            f"{given} holds no image with a BreaKHis name below {SLIDES} ({len(paths)} other images, "
            f"{_counted(left_out) or 'nothing else'}). Other images: set data.source to local."
        )
    if csv_file:
        copy_file(csv_file, folder / "metadata.csv")
    else:
        _write_table(named, folder / "metadata.csv")
        left_out["name not of BreaKHis (in images/, not in metadata.csv)"] = len(paths) - len(named)
    originals = compare(images, paths)
    facts = _facts("breakhis", f"BreaKHis, {len(paths):,} images; {originals}", len(paths), left_out)
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
        raise SourceError(f"data.breakhis.path: {folder} holds several copies: {some(found)}. Name one of them.")
    if not found:
        raise SourceError(
            f"data.breakhis.path: no folder {SLIDES} in {folder}, nor one or two levels down. Set it to BreaKHis_v1."
        )
    return found[0]


def _place(path: PurePosixPath) -> PurePosixPath | str:
    """Map an archive's file to its place in the official tree, or say why it is left out."""
    if not is_image(path.name):
        return "not an image"
    if SLIDES not in path.parts[:-1]:
        return f"not below {SLIDES}"
    return TREE.joinpath(*path.parts[path.parts.index(SLIDES) + 1 :])


def _gather(root: Path, folder: Path, key: str) -> tuple[list[str], Counter[str]]:
    if folder.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"{key}: {root} contains this pipeline's own data. Name the folder of your images alone.")
    return find_images(root)


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


def _expand(path: str, key: str) -> Path:
    """Write out `~`. Raises `SourceError` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SourceError(f"{key}: {path} begins with a user who has no home here. Write the whole path.") from None


def _file(path: str | None, key: str) -> Path:
    """Return the user's file. Raises `SourceError` where there is none."""
    file = _expand(path or "", key)
    if file.is_dir():
        raise SourceError(f"{key}: {file} is a folder, not a CSV file.")
    if not file.is_file():
        raise SourceError(f"{key}: {file} is missing. Paths are relative to the project's folder {Path.cwd()}.")
    return file


def _facts(
    source: str, description: str, images: int, left_out: Mapping[str, int], synthetic: bool = False
) -> dict[str, Any]:
    left_out = {reason: count for reason, count in sorted(left_out.items()) if count}
    return {
        "source": source,
        "synthetic": synthetic,
        "description": description,
        "images": images,
        "left_out": left_out,
    }


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
