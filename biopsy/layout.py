"""Where things lie that one stage writes and another reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def resized_path(row: Mapping[Any, Any]) -> Path:
    """Return where the image of one row of the labels lies below the resized tree."""
    return Path(row["class"] or "unspecified", row["subtype"] or "unspecified", f"{row['image_id']}.png")
