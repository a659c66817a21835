"""What a tile must be like, so that the model sees in it as much of the tissue as in its training images."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from biopsy.core.errors import DataError, ParamsError, warn
from biopsy.core.files import read_csv, sha256
from biopsy.core.layout import LABELS, project_of
from biopsy.images.slides.reader import PLAUSIBLE, Slide
from biopsy.images.slides.tissue import Cut
from biopsy.networks.model_file import Card

SAME = 1.1  # scales that differ by less are one
MOST_ENLARGED = 10
MOST_OVERLAP = 0.9  # then a hundred tiles lie on each place


@dataclass(frozen=True)
class Scale:
    """What the training images were: their width and height in pixels, and micrometres per pixel."""

    um_per_pixel: float
    width: int
    height: int


def trained_scale(folder: Path, card: Card) -> Scale | None:
    """Look up the scale of a model's images in the project that it lies in.

    Parameters
    ----------
    folder
        Of the model in its project: see `project_of`.
    card
        The model's.

    Returns
    -------
    Scale or None
        None where the table of images is not the one the model was trained on, does not give `mpp` of every image, or
        gives several.
    """
    path = project_of(folder) / LABELS
    if not path.is_file() or sha256(path) != card.data.get("labels"):
        return None
    table = read_csv(path, ["mpp", "width", "height"])
    given = [float(value) for value in table["mpp"] if value]
    if not given or len(given) < len(table) or min(given) <= 0 or max(given) / min(given) > SAME:
        return None
    return Scale(median(given), int(table["width"].median()), int(table["height"].median()))


def scale_in(facts: dict[str, str]) -> Scale | None:
    """Read the scale that `biopsy export` wrote into an .onnx file."""
    found = json.loads(facts.get("scale", "null"))
    return Scale(**found) if found else None


def plan(
    slide: Slide, card: Card, scale: Scale | None, mpp: float | None, tile_mpp: float | None, overlap: float = 0.0
) -> Cut:
    """Decide how large the tiles of a slide are.

    Parameters
    ----------
    slide
        Its own scale counts where `mpp` is None.
    card, scale
        The model's; the scale is None where it is not known.
    mpp, tile_mpp
        Micrometres per pixel of the slide and of the tiles, where a person gives them.
    overlap
        The share of a tile's side that the next one covers, too: 0 to 0.9.

    Raises
    ------
    ParamsError
        The tiles have a scale, and the slide has none; a number is out of its range.
    DataError
        The slide is smaller than a tile.
    """
    _check(mpp, tile_mpp, overlap)
    resize, um, slide_um = (
        card.preparation.resize,
        tile_mpp or (scale and scale.um_per_pixel),
        mpp or slide.um_per_pixel,
    )
    size = (resize.size, resize.size)
    if scale:
        size = (scale.width, scale.height)
    elif resize.mode == "tiles":
        size = (resize.tiles.px * resize.tiles.columns, resize.tiles.px * resize.tiles.rows)
    elif card.training and {"width", "height"} <= set(card.training.ranges):  # as much tissue as a training image shows
        ranges = card.training.ranges
        size = (round(ranges["width"].median), round(ranges["height"].median))
    if um and not slide_um:
        raise ParamsError(
            f"{slide.path} does not say how many micrometres a square pixel is, but tiles are read at {um:g}. Set it "
            "with --mpp: about 0.25 for a scan at 40x, 0.5 at 20x."
        )
    times = um / slide_um if um and slide_um else 1.0
    if not um:
        shown = f" ({slide_um:.3g} micrometres a pixel)" if slide_um else ""
        warn(
            f"the model does not know the scale of its training images, so tiles of {size[0]}x{size[1]} pixels are "
            f"read at the full resolution of {slide.path.name}{shown}. If that was not the scale, set it with "
            "--tile-mpp."
        )
    elif times < 1 / MOST_ENLARGED:
        raise ParamsError(
            f"{slide.path} has {slide_um:g} micrometres a pixel, and tiles are read at {um:g}: {1 / times:.0f} times "
            "as fine, so they would show nothing. Check --mpp and --tile-mpp."
        )
    elif times < 1 / SAME:
        warn(f"{slide.path.name} is coarser than the training images, so its tiles are enlarged {1 / times:.1f} times.")
    width, height = size[0] * times, size[1] * times
    if width > slide.width or height > slide.height:
        raise DataError(
            f"{slide.path} has {slide.width}x{slide.height} pixels, fewer than one tile ({width:.0f}x{height:.0f}). "
            "Check --mpp and --tile-mpp."
        )
    found = Cut(width, height, size, slide_um, um or slide_um, overlap)
    if overlap and min(found.stride) < 1:
        raise ParamsError(f"--overlap {overlap:g}: tiles would lie less than a pixel apart. Give a smaller one.")
    return found


def _check(mpp: float | None, tile_mpp: float | None, overlap: float) -> None:
    """Raise `ParamsError` where a number is out of its range."""
    for option, value in (("--mpp", mpp), ("--tile-mpp", tile_mpp)):
        if value is not None and not PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
            raise ParamsError(f"{option} must be {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} micrometres. Got {value:g}.")
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ParamsError(f"--overlap must be 0 to {MOST_OVERLAP:g}, a share of a tile's side. Got {overlap:g}.")
