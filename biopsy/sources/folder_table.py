"""The table of images in class folders: the data set has no CSV, and its folders are the labels."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from biopsy.core.errors import SourceError, some, warn
from biopsy.core.protocol import read_part
from biopsy.core.text import plain

COLUMNS = ("split", "Magnification", "path_to_image", "label")  # an empty cell comes first: no row looks like a comment
NO_CLASSES = {
    *("images", "image", "imgs", "img", "pictures", "photos", "patches", "tiles", "data", "masks", "mask", "labels"),
    *("annotations", "annotation", "groundtruth", "gt", "segmentation", "segmentations", "overlays", "thumbnails"),
}  # fmt: skip
DRAWN = {
    *("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "groundtruth", "anno", "annotation", "overlay"),
    *("explained", "heatmap", "contour", "boundary"),
}  # fmt: skip


def leave_hidden(paths: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """Leave out and count files in hidden folders, such as the copies that Jupyter keeps."""
    kept = [path for path in paths if not any(name.startswith(".") for name in PurePosixPath(path).parts[:-1])]
    return kept, {"in a hidden folder": len(paths) - len(kept)}


def write_folder_table(paths: Sequence[str], target: Path, where: str) -> None:
    """Write a row for each image: part, path, label and each folder above it.

    The label is the innermost folder that is not named like a part (`train`, `Test_set`); such a folder gives the part.
    `folder1` is the outermost folder, which may be a patient or a magnification.

    Parameters
    ----------
    paths
        Relative to the folder of images.
    target
        The CSV.
    where
        The parameter and the folder, for the error.

    Raises
    ------
    SourceError
        Images without a folder that can be their label.
    """
    folders = {path: PurePosixPath(path).parts[:-1] for path in paths}
    named = {path: [name for name in names if not read_part(name)] for path, names in folders.items()}
    if flat := [path for path in paths if not named[path]]:
        raise SourceError(
            f"{where}: {len(flat):,} of {len(paths):,} images lie in no folder of a class ({some(flat, 3)}). Put each "
            "class into a folder of its own, or name a CSV with the labels in data.local.csv."
        )
    holding = {PurePosixPath(path).parent for path in paths}
    nested = sorted(str(folder) for folder in holding if holding & set(folder.parents))
    if nested:
        warn(
            f"{where}: there are images in {nested[0]} and in a folder above it. The label is the innermost folder; "
            "for the outermost, set labels.tasks.label.column to folder1, and so on."
        )
    elif levels := _outer(folders.values()):
        warn(
            f"{where}: the label is the innermost folder ({some(sorted({names[-1] for names in named.values()}), 3)}). "
            f"Where an outer one is the class, name its column in labels.tasks.label.column: {levels}."
        )
    if odd := sorted({names[-1] for names in named.values() if plain(names[-1]) in NO_CLASSES}):
        warn(
            f"{where}: each folder of images is taken as a class, also {some(odd)}. Where that is no class, move the "
            "folder away, name a CSV with the labels in data.local.csv, or, for an outer folder that is the class, set "
            "labels.tasks.label.column to folder1, and so on."
        )
    if drawn := _masks(paths):
        warn(
            f"{where}: {len(drawn):,} of {len(paths):,} images are called as a mask or an overlay of another "
            f"({some(drawn, 3)}), and are taken as images of the class. Move them away, or name a CSV without them."
        )
    depth = max(map(len, folders.values()))
    with target.open("x", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"folder{i}" for i in range(1, depth + 1))])
        for path, names in folders.items():
            part = next(filter(None, map(read_part, reversed(names))), "")
            writer.writerow([part, "", path, named[path][-1], *names, *[""] * (depth - len(names))])


def _masks(paths: Sequence[str]) -> list[str]:
    """List the images with the name of another one plus a word such as `_mask`."""
    stems = {str(PurePosixPath(path).with_suffix("")): path for path in paths}
    parts = ((path, re.fullmatch(r"(.+?)[ _.-]+([A-Za-z]+)[ _-]*\d*", stem)) for stem, path in stems.items())
    return [path for path, found in parts if found and found[1] in stems and plain(found[2]) in DRAWN]


def _outer(folders: Iterable[Sequence[str]]) -> str:
    """Say which column holds which folders above the label, except a folder that is the same for all images."""
    levels: dict[int, set[str]] = {}
    for names in folders:
        *above, _ = (i for i, name in enumerate(names) if not read_part(name))
        for i in above:
            levels.setdefault(i, set()).add(names[i])
    return "; ".join(f"folder{i + 1} ({some(sorted(levels[i]), 3)})" for i in sorted(levels) if len(levels[i]) > 1)
