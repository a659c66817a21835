"""Which inputs of `biopsy predict` are whole slides; needs none of their packages."""

import glob
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import TiffImagePlugin

from biopsy.core.errors import ParamsError, warn
from biopsy.core.files import IMAGE_SUFFIXES, SLIDE_SUFFIXES, at_home, expand
from biopsy.core.folders import files_below, is_drawn
from biopsy.core.text import count
from biopsy.images.decode import BROKEN, TIFF

TILE_WIDTH = 322  # the number of this tag
LARGEST_PHOTOGRAPH = 50_000_000  # pixels of a TIFF of one page; a larger one is a slide


def find_slides(inputs: Sequence[str]) -> list[Path]:
    """List the slides that inputs name: files, and folders or patterns with slides and no photographs.

    Raises
    ------
    ParamsError
        Other inputs name images.
    """
    found: list[Path] = []
    rest = []
    for given in inputs:
        path = at_home(given)
        if path.is_dir():
            closed = list[Path]()
            named = _slides_alone(given, files_below(path, closed))
            if named and closed:
                files_below(path)  # says so: slides have no row for it, unlike images
        elif not path.exists() and glob.has_magic(given):
            named = _slides_alone(given, expand(path))
        else:
            named = [path] if is_slide(path) else []
        found += named
        rest += [] if named else [given]
    if found and rest:
        raise ParamsError(f"{found[0]} is a whole slide, and {rest[0]} is none. Predict slides and images apart.")
    return list(dict.fromkeys(found))


def _slides_alone(given: str, paths: Iterable[Path]) -> list[Path]:
    """Return the slides among files; none if there is a photograph, since then the folder is one of images."""
    found, photograph = [], None
    for path in sorted(paths):
        if is_drawn(path):
            continue
        if is_slide(path):
            found.append(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            photograph = photograph or path
    if not photograph:
        return found
    if found:
        warn(
            f"{given} holds photographs ({photograph.name}) and {count(len(found), 'whole slide')} ({found[0].name}), "
            f"which {'is' if len(found) == 1 else 'are'} left out. Name the slides apart from them."
        )
    return []


def is_slide(path: Path) -> bool:
    """Tell a slide from a photograph by its suffix; a TIFF by its directories: a pyramid, or very many pixels."""
    name = path.name.lower()
    if name.endswith((*SLIDE_SUFFIXES, ".ome.tif", ".ome.tiff")):
        return True
    if not name.endswith((".tif", ".tiff")) or not path.is_file():
        return False
    found = False
    with suppress(*BROKEN), path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is said when it is read
        if stream.read(4) in TIFF:
            stream.seek(0)
            image = TiffImagePlugin.TiffImageFile(stream)
            width, height = image.size
            found = width * height > LARGEST_PHOTOGRAPH or TILE_WIDTH in image.tag_v2  # if the next page is gone
            image.seek(image.n_frames - 1)
            return image.size[0] < width or width * height > LARGEST_PHOTOGRAPH
    return found
