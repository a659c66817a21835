"""Equal pixels in several files: harmless under one label, a contradiction under two (BreakHis slide 13412)."""

from typing import Any

import pandas as pd

from biopsy.core.errors import DataError, nearest, some
from biopsy.core.files import LISTED
from biopsy.core.sections.data import Ingest
from biopsy.tables.labels.scheme import LabelScheme, finest


def resolve(images: pd.DataFrame, settings: Ingest, scheme: LabelScheme) -> tuple[dict[str, str], dict[str, Any]]:
    """Decide which images with equal decoded pixels stay.

    Under one label, the first by `image_id` stays. `ingest.conflicts: keep_<label>` keeps the images of that label; if
    this does not settle a conflict, both sides are dropped.

    Parameters
    ----------
    images
        One row per readable image, with `image_id`, `pixels_sha256`, a label for each task and `slide`; gaps filled
        from the file names.
    settings
        `duplicates` and `conflicts`.
    scheme
        The tasks.

    Returns
    -------
    dict of image_id to reason, dict
        The images to leave out, and the counts for `metrics/ingest.json`.

    Raises
    ------
    DataError
        With `conflicts: error`, naming images and labels of both sides; or `keep_<label>` names no class.
    """
    _check_policy(settings.conflicts, scheme)
    images = images.assign(finest=finest(images, scheme))
    repeated = images[images["pixels_sha256"].duplicated(keep=False)].sort_values("image_id")
    clash = repeated[_disagree(repeated, scheme)]
    if len(clash) and settings.conflicts == "error":
        raise DataError(
            f"{len(clash):,} images have equal pixels under two labels "
            f"({some((' = '.join(sides) for sides in _listed(clash)), 3)}). "
            f"Set ingest.conflicts to drop_both, or to keep_<label> such as keep_{clash['finest'].iloc[0]}."
        )
    keepers = _keepers(clash, settings.conflicts, scheme)
    lost = clash.loc[~clash.index.isin(keepers.index), "image_id"]
    same = pd.concat([repeated.drop(index=clash.index), keepers]).sort_values("image_id")
    same = same[same["pixels_sha256"].duplicated(keep=False)]
    extra = same.loc[same["pixels_sha256"].duplicated() & (settings.duplicates == "drop"), "image_id"]
    counts = {
        "duplicates": _count(same, len(extra), settings.duplicates),
        "conflicts": {**_count(clash, len(lost), settings.conflicts), "by_slide": _labels_by_slide(clash)},
    }
    return dict.fromkeys(lost, "conflict") | dict.fromkeys(extra, "duplicate"), counts


def slides_under_two_labels(images: pd.DataFrame, scheme: LabelScheme) -> dict[str, dict[str, int]]:
    """Count the images of every slide that has more than one label: `{"13412": {"DC": 123, "LC": 123}}`.

    Only labels of the scheme's last task, the finest, count.
    """
    known = images[(images["slide"] != "") & (images[scheme.columns[-1]] != "")]
    table = _labels_by_slide(known.assign(finest=finest(known, scheme)))
    return {slide: labels for slide, labels in table.items() if len(labels) > 1}


def _check_policy(policy: str, scheme: LabelScheme) -> None:
    label = policy.removeprefix("keep_")
    known = [name for task in scheme.tasks.values() for name in task.names]
    if label != policy and label not in known:
        raise DataError(
            f"ingest.conflicts is '{policy}', and '{label}' is not a class of the label scheme '{scheme.name}'; it has "
            f"{', '.join(known)}.{nearest(label, known)}"
        )


def _disagree(images: pd.DataFrame, scheme: LabelScheme) -> pd.Series:
    """Say for each image whether its pixels have two known labels; an unknown label contradicts none."""
    known = images[scheme.columns].where(lambda labels: labels != "")
    kinds = known.groupby(images["pixels_sha256"]).nunique().max(axis=1)
    return images["pixels_sha256"].map(kinds).gt(1)


def _keepers(clash: pd.DataFrame, policy: str, scheme: LabelScheme) -> pd.DataFrame:
    keepers = clash[(clash[scheme.columns] == policy.removeprefix("keep_")).any(axis=1)]
    return keepers[~_disagree(keepers, scheme)]


def _labels_by_slide(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    slides, labels = images["slide"].replace("", "unknown"), images["finest"]
    for slide, label in sorted(zip(slides, labels, strict=True)):
        counts = table.setdefault(slide, {})
        counts[label] = counts.get(label, 0) + 1
    return table


def _listed(images: pd.DataFrame) -> list[list[str]]:
    """List the first groups of equal images, each image with its label."""
    groups: dict[str, list[str]] = {}
    for pixels, image, label in zip(images["pixels_sha256"], images["image_id"], images["finest"], strict=True):
        groups.setdefault(pixels, []).append(f"{image} ({label})")
    return sorted(groups.values())[:LISTED]


def _count(images: pd.DataFrame, dropped: int, policy: str) -> dict[str, Any]:
    """Count groups of equal images; `across_slides` counts those that lie on several slides."""
    slides = images.groupby("pixels_sha256")["slide"].nunique()
    return {
        "policy": policy,
        "groups": len(slides),
        "images": len(images),
        "dropped": dropped,
        "across_slides": int(slides.gt(1).sum()),
        "listed": _listed(images),
    }
