"""Where things lie that one stage writes and another reads."""

from pathlib import Path


def resized_path(image_id: str) -> Path:
    """Return where an image lies below the resized tree, and below a stained one; its labels do not matter."""
    return Path(f"{image_id}.png")
