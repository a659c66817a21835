"""Equal pixels in several files: harmless under one label, a contradiction under two (BreakHis slide 13412)."""

from typing import Any

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.files import LISTED
from biopsy.core.sections import Ingest


def resolve(images: pd.DataFrame, settings: Ingest) -> tuple[dict[str, str], dict[str, Any]]:
    """Decide what becomes of images whose decoded pixels are equal.

    Of equal images under one label the first by `image_id` stays. `ingest.conflicts: keep_<label>` keeps the images of
    that label; a conflict that the label does not settle is dropped on both sides.

    Parameters
    ----------
    images
        One row per readable image, with `image_id`, `pixels_sha256`, `class`, `subtype` and `slide`; gaps filled from
        the file names.
    settings
        `duplicates` and `conflicts`.

    Returns
    -------
    dict of image_id to reason, dict
        The images to leave out, and the counts for `metrics/ingest.json`.

    Raises
    ------
    DataError
        With `conflicts: error`, naming images and labels of both sides.
    """
    repeated = images[images["pixels_sha256"].duplicated(keep=False)].sort_values("image_id")
    clash = repeated[_disagree(repeated)]
    if len(clash) and settings.conflicts == "error":
        raise DataError(
            f"{len(clash):,} images have equal pixels under two labels "
            f"({some((' = '.join(sides) for sides in _listed(clash)), 3)}). "
            "Set ingest.conflicts to drop_both, or to keep_<label> such as keep_DC."
        )
    keepers = _keepers(clash, settings.conflicts)
    lost = clash.loc[~clash.index.isin(keepers.index), "image_id"]
    same = pd.concat([repeated.drop(index=clash.index), keepers]).sort_values("image_id")
    same = same[same["pixels_sha256"].duplicated(keep=False)]
    extra = same.loc[same["pixels_sha256"].duplicated() & (settings.duplicates == "drop"), "image_id"]
    counts = {
        "duplicates": _count(same, len(extra), settings.duplicates),
        "conflicts": {**_count(clash, len(lost), settings.conflicts), "by_slide": _labels_by_slide(clash)},
    }
    return dict.fromkeys(lost, "conflict") | dict.fromkeys(extra, "duplicate"), counts


def slides_under_two_labels(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the images of every slide that stands under more than one label: `{"13412": {"DC": 123, "LC": 123}}`."""
    table = _labels_by_slide(images[(images["slide"] != "") & (images["subtype"] != "")])
    return {slide: labels for slide, labels in table.items() if len(labels) > 1}


def _disagree(images: pd.DataFrame) -> pd.Series:
    """Tell of each image whether its pixels stand under two known labels; an unknown label disagrees with nothing."""
    known = images[["class", "subtype"]].where(lambda labels: labels != "")
    kinds = known.groupby(images["pixels_sha256"]).nunique().max(axis=1)
    return images["pixels_sha256"].map(kinds).gt(1)


def _keepers(clash: pd.DataFrame, policy: str) -> pd.DataFrame:
    label = policy.removeprefix("keep_")
    keepers = clash[(clash["class"] == label) | (clash["subtype"] == label)]
    return keepers[~_disagree(keepers)]


def _labels(images: pd.DataFrame) -> pd.Series:
    """Return the finest label known of each image."""
    return images["subtype"].where(images["subtype"] != "", images["class"]).replace("", "unlabelled")


def _labels_by_slide(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    slides, labels = images["slide"].replace("", "unknown"), _labels(images)
    for slide, label in sorted(zip(slides, labels, strict=True)):
        counts = table.setdefault(slide, {})
        counts[label] = counts.get(label, 0) + 1
    return table


def _listed(images: pd.DataFrame) -> list[list[str]]:
    """List the first groups of equal images, each image with its label."""
    sides = images["image_id"] + " (" + _labels(images) + ")"
    groups = sides.groupby(images["pixels_sha256"]).agg(list)
    return sorted(groups)[:LISTED]


def _count(images: pd.DataFrame, dropped: int, policy: str) -> dict[str, Any]:
    """Count groups of equal images; `across_slides` are the groups that a grouped split could tear apart."""
    slides = images.groupby("pixels_sha256")["slide"].nunique()
    return {
        "policy": policy,
        "groups": len(slides),
        "images": len(images),
        "dropped": dropped,
        "across_slides": int(slides.gt(1).sum()),
        "listed": _listed(images),
    }
