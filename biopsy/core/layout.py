"""Where things lie that one stage writes and another reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biopsy.core.files import read_json

STAIN_FILE = "stain.json"  # in data/stained/<protocol>/: what was done to the images' stain


def resized_path(row: Mapping[Any, Any]) -> Path:
    """Return where the image of one row of the labels lies below the resized tree, and below a stained one."""
    return Path(row["class"] or "unspecified", row["subtype"] or "unspecified", f"{row['image_id']}.png")


def images_of(root: Path, protocol: str) -> tuple[Path, dict[str, Any]]:
    """Find the images of one protocol.

    Parameters
    ----------
    root
        The project's folder.
    protocol
        Such as 'case'.

    Returns
    -------
    tree : Path
        The stained tree, or the resized one where no stain is normalised.
    stain : dict
        `method` ('none', 'reinhard' or 'macenko') and the numbers that were fitted.

    Raises
    ------
    DataError
        The stage `stain` has not run, or was stopped; or its note is damaged.
    """
    folder = root / "data/stained" / protocol
    stain: dict[str, Any] = read_json(folder / STAIN_FILE, {"method": str})
    return (root / "data/resized" if stain["method"] == "none" else folder), stain
