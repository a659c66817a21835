"""Where things lie that one stage writes and another reads."""

import os
from pathlib import Path


def resized_path(image_id: str) -> Path:
    """Return where an image lies below the resized tree, and below a stained one; its labels do not matter."""
    return Path(f"{image_id}.png")


def cache(kind: str) -> Path:
    """Return where this machine keeps what can be had again, for all projects: `$BIOPSY_CACHE/<kind>`."""
    base = os.environ.get("BIOPSY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "biopsy")
    return Path(base).expanduser() / kind
