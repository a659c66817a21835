"""`biopsy explain`: for each image a picture of where the model looks, all on one colour scale."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from biopsy.core.errors import BiopsyError, DataError, MachineError, ParamsError
from biopsy.core.extras import extra
from biopsy.core.files import write_png
from biopsy.core.folders import EXPLAINED
from biopsy.images.decode import ImageError, read_rgb
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.explain.image import (
    METHODS,
    Explanation,
    Method,
    check_method,
    explain,
    first_method,
    lay_on,
    overlay,
    paint,
    scale_of,
    shrink,
)
from biopsy.serving.finding import only_model
from biopsy.serving.inputs import Found, find_images
from biopsy.serving.model import Model, describe

with extra("explain"):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

LONGEST = 180  # bytes of an image's name that its picture keeps; a file's may have 255


def explain_files(inputs: Sequence[str], path: Path | None, out: Path, method: Method = "occlusion") -> int:
    """Write `<name>-explained.png` for each image, and a line about it; return how many have none.

    Parameters
    ----------
    inputs, path
        As for `predict_files`.
    out
        The folder.
    method
        As for `explain`.

    Raises
    ------
    ParamsError, DataError, SourceError
        No image, no model or more than one, a file in the folder's place, a model that the method cannot explain.
    MachineError
        The folder is read-only.
    KeyboardInterrupt
        Stopped; what was explained by then is drawn, and the message says how many.
    """
    check_folder(out, "--out")
    path = path or only_model()
    images = _images(inputs)
    model = Model(path)
    check_method(model, method)
    pictures = Pictures(out, "--out")
    print(describe(model.card), file=sys.stderr)
    found, errors, stopped = _explain(model, images, method)
    limit, drawn = scale_of(list(found.values())), 0  # one scale for the colours of all
    try:
        for image, explanation in found.items():
            target = pictures.target(image.stem)
            try:
                pixels = read_rgb(image, model.card.preparation.max_pixels)
                write_png(target, draw(image.name, pixels, explanation, model.card, limit))
            except ImageError as error:  # gone since
                errors.append(str(error))
                continue
            told = f"{explanation.predicted} {explanation.probability:.2f}; {explanation.scores}. {explanation.verdict}"
            told = f"{told} {explanation.note}".strip()
            print(f"{_shown(image)} -> {_shown(target)}: {told}", flush=True)
            drawn += 1
    except KeyboardInterrupt:
        stopped = True
    if stopped:
        raise KeyboardInterrupt(f"{drawn} of {len(images)} images have a picture in {out}.")
    for sentence in errors:
        print(f"error: {sentence}", file=sys.stderr)
    return len(errors)


def _images(inputs: Sequence[str]) -> list[Path]:
    """Find the images."""
    found = find_images(inputs)
    if packed := [image.path for image in found if image.member]:
        raise ParamsError(f"{packed[0]}: explain does not read .zip files. Unpack it, and name the folder.")
    return [image.path for image in without_pictures(found)]


def without_pictures(images: Sequence[Found]) -> list[Found]:
    """Leave out what an earlier call drew: its folder may lie among the images. Raises `DataError` if none is left."""
    left = [image for image in images if not image.name.endswith(EXPLAINED)]
    if not left:
        raise DataError(f"all of these images are called *{EXPLAINED}, so explain drew them. Name other images.")
    return left


def _shown(name: object) -> str:
    """Write a name in one line that terminals and fonts can show, whatever bytes it has."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def _explain(model: Model, images: list[Path], method: Method) -> tuple[dict[Path, Explanation], list[str], bool]:
    """Return the explanations, the errors of the other images, and whether the user stopped it in between."""
    found: dict[Path, Explanation] = {}
    errors = []
    try:
        for image in tqdm(images, "explain", unit="image", delay=2, file=sys.stderr):
            try:
                found[image] = explain(model, image, method)
            except BiopsyError as error:
                if not found and isinstance(error, (MachineError, ParamsError)):
                    raise  # a package or the training images are missing: it would be said of each image
                errors.append(str(error))
    except KeyboardInterrupt:  # what is known is drawn; another one stops that, too
        return found, errors, True
    return found, errors, False


def check_folder(folder: Path, option: str) -> None:
    """Raise `ParamsError` where a file has the name of the folder that an option names."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise ParamsError(f"{option}: {folder} is not a folder. Name one.")


class Pictures:
    """A folder of pictures, which are called as their images."""

    def __init__(self, folder: Path, option: str) -> None:
        """Make the folder before the work, in case it may not be made. Raises `MachineError`."""
        check_folder(folder, option)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise MachineError(
                f"no permission to write into {folder}. Change its mode (chmod u+w), or name another {option}."
            )
        self._folder, self._used = folder, set[str]()

    def target(self, stem: str) -> Path:
        """Return the file of an image's picture; the name is numbered where an image of another folder has it."""
        stem = os.fsdecode(os.fsencode(stem)[:LONGEST])
        name, number = stem, 1
        while name.lower() in self._used:
            number += 1
            name = f"{stem}-{number}"
        self._used.add(name.lower())
        return self._folder / f"{name}{EXPLAINED}"


def draw_one(model: Model, image: Found, target: Path) -> None:
    """Explain an image by the method that a model begins with, and draw it on a colour scale of its own.

    Raises
    ------
    BiopsyError
        There is no explanation.
    """
    most = model.card.preparation.max_pixels
    pixels = read_rgb(image.source(most), most)
    explanation = explain(model, pixels, first_method(model))
    write_png(target, draw(Path(image.name).name, pixels, explanation, model.card, scale_of([explanation])))


def draw(name: str, image: NDArray[np.uint8], explanation: Explanation, card: Card, limit: float) -> Figure:
    """Draw an image, (height, width, 3), and, beside it, the map laid on its grey copy."""
    height, width = image.shape[:2]
    laid = lay_on(explanation.drops, height, width, card.preparation.resize)
    image, colours = shrink(image, laid), paint(laid, limit)
    figure = Figure((10, min(max(4.6 * height / width + 1.6, 4), 14)), layout=ConstrainedLayoutEngine())
    name = _shown(name)
    name = name if len(name) <= 80 else f"{name[:40]}…{name[-39:]}"
    model = f"{card.task}-{card.protocol}"
    title = f"{explanation.words}, probability {explanation.probability:.2f}, model {model}\n{name}"
    figure.suptitle(title, parse_math=False)  # a name may hold two $
    axes = figure.subplots(1, 2)
    for axis, shown in zip(axes, (image, overlay(image, colours)), strict=True):
        axis.imshow(shown)
        axis.set_axis_off()
    bar = ScalarMappable(Normalize(-limit, limit), ListedColormap(paint(np.linspace(-limit, limit, 256), limit) / 255))
    figure.colorbar(bar, ax=axes[1], label=fill(METHODS[explanation.method], 40), shrink=0.9)
    unseen = " The model does not see the places without colour." if np.isnan(laid).any() else ""
    lines = [f"{explanation.verdict}{unseen}", explanation.note, f"{explanation.scores.capitalize()}. {NOTICE}"]
    figure.supxlabel("\n".join(filter(None, lines)), fontsize="small")
    return figure
