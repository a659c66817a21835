"""The user's files and folders, as parameters name them: found, or told in a sentence what is wrong with them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biopsy.core.errors import SourceError
from biopsy.sources.gather import find_images


def expand(path: str, key: str) -> Path:
    """Write out `~`. Raises `SourceError` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SourceError(f"{key}: {path} begins with a user who has no home here. Write the whole path.") from None


def user_file(path: str | None, key: str) -> Path:
    """Return the user's file. Raises `SourceError` where there is none."""
    file = expand(path or "", key)
    if file.is_dir():
        raise SourceError(f"{key}: {file} is a folder, not a CSV file.")
    if not file.is_file():
        raise SourceError(f"{key}: {file} is missing. Paths are relative to the project's folder {Path.cwd()}.")
    return file


def gather(root: Path, folder: Path, key: str) -> tuple[list[str], Counter[str]]:
    """List the images below `root`, which must not hold `folder`, the one that is being filled."""
    if folder.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"{key}: {root} contains this pipeline's own data. Name the folder of your images alone.")
    return find_images(root)


def make_facts(
    source: str, description: str, images: int, left_out: Mapping[str, int], synthetic: bool = False
) -> dict[str, Any]:
    """Make what `source.json` says; `left_out` counts by reason what was not taken."""
    left_out = {reason: count for reason, count in sorted(left_out.items()) if count}
    return {
        "source": source,
        "synthetic": synthetic,
        "description": description,
        "images": images,
        "left_out": left_out,
    }


def counted(left_out: Mapping[str, int]) -> str:
    """Put counts into words: `2 not an image, 1 broken link`."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
