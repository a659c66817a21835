"""The record of how a file becomes the array that a network sees; `biopsy.images.prepare` carries it out."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from biopsy.core.errors import DataError
from biopsy.core.files import read_csv, write_json
from biopsy.core.layout import RESIZED, STAINED
from biopsy.core.record import Record
from biopsy.core.sections.data import Resize

# In data/resized and data/stained/<protocol>, and where folds have stains of their own also in its folders <fold>.
# Written last, so a tree without it is not whole.
FILE = "preparation.json"


class Stains(Record):
    """The stain that images are normalised to: measured on one image, or the mean over several.

    Attributes
    ----------
    method
        A name in `biopsy.images.stains`.
    directions
        Reinhard: the mean of L* (0 to 100), a*, b*. Macenko: the optical density (red, green, blue) of a unit of
        haematoxylin, then of eosin, each of length one; six numbers.
    spreads
        Reinhard: the deviations of L*, a*, b*. Macenko: the 99th percentile of the amount of each stain. Empty for a
        method that does not raise contrast.
    """

    method: str
    directions: tuple[float, ...]
    spreads: tuple[float, ...]


class Preparation(Record):
    """All that decides which array a file becomes: (views, size, size, 3) uint8, RGB.

    Each attribute is part of the key under which a tree's images are kept, and of every model card.

    Attributes
    ----------
    max_pixels
        The largest width x height that is decoded.
    min_size
        The least width and height in pixels.
    resize
        Size, mode, tiles and structure.
    stain
        The stain that tissue is brought to; None keeps each image's own.
    """

    max_pixels: int
    min_size: int = 1
    resize: Resize = Resize()
    stain: Stains | None = None

    @property
    def size(self) -> int:
        """The side in pixels of what the network sees."""
        return self.resize.size

    @property
    def views(self) -> int:
        """How many squares an image becomes: its tiles, or 1."""
        tiles = self.resize.tiles
        return tiles.rows * tiles.columns if self.resize.mode == "tiles" else 1

    def differences(self, other: "Preparation") -> str:
        """List what differs, such as 'resize.mode: crop, not stretch'; of a stain only the name."""
        found = []
        for name, mine in self.resize.model_dump().items():
            theirs = getattr(other.resize, name)
            if mine != (theirs.model_dump() if isinstance(theirs, BaseModel) else theirs):
                found.append(f"resize.{name}: {mine}, not {theirs}")
        for name in ("max_pixels", "min_size"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"ingest.{name}: {mine}, not {theirs}")
        if self.stain != other.stain:
            names = [stain.method if stain else "none" for stain in (self.stain, other.stain)]
            found.append(f"stain: {names[0]}, not {names[1]}" if names[0] != names[1] else "stain: fitted otherwise")
        return "; ".join(found)


def suited(resize: Resize, sides: Iterable[int]) -> Resize:
    """Return the resizing that suits images with `sides` as their widths and heights.

    If no side is longer than a tile, each tile would show nearly the whole image: mode `tiles` becomes `stretch`, one
    view with the same features.
    """
    tiny = resize.mode == "tiles" and max(sides, default=0) <= resize.tiles.px
    return resize.model_copy(update={"mode": "stretch"}) if tiny else resize


def suited_to(resize: Resize, labels: Path) -> Resize:
    """Do what `suited` does for the images of a table of labels."""
    sizes = read_csv(labels, ["width", "height"])
    return suited(resize, map(int, [*sizes["width"], *sizes["height"]]))


def read_preparation(folder: Path) -> Preparation:
    """Read how the images of a tree were made. Raises `DataError` where the tree is not whole or the file not ours."""
    path = folder / FILE
    try:
        return Preparation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Run `dvc repro`.") from None
    except ValidationError as error:
        raise DataError(
            f"{path} does not say how images were made ({error.errors()[0]['msg']}). Delete {folder}, and run "
            "`dvc repro`."
        ) from None


def write_preparation(folder: Path, preparation: Preparation) -> None:
    """Say beside a tree's images how they were made."""
    write_json(folder / FILE, preparation.model_dump(mode="json"))


def images_of(root: Path, protocol: str, fold: str | None = None) -> tuple[Path, Preparation]:
    """Find the images of one protocol.

    Parameters
    ----------
    root
        The project's folder.
    protocol
        Such as 'case'.
    fold
        The fold of a cross-validation, such as '1-2'.

    Returns
    -------
    tree : Path
        The stained tree, or the resized one without stain normalisation.
    preparation : Preparation
        How its images were made from the original files.

    Raises
    ------
    DataError
        The stage `stain` has not run, or was stopped.
    """
    folder = root / STAINED / protocol
    preparation = read_preparation(folder)
    if fold and (folder / fold).is_dir():
        folder = folder / fold
        preparation = read_preparation(folder)
    return (folder if preparation.stain else root / RESIZED), preparation
