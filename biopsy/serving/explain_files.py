"""`biopsy explain`: for each image a picture of where the model looks, all on one colour scale."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from tqdm import tqdm

from biopsy.core.errors import BiopsyError, DataError, MachineError, ParamsError
from biopsy.core.extras import extra
from biopsy.core.files import write_png
from biopsy.images.decode import ImageError, read_rgb
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.explain import (
    METHODS,
    Explanation,
    Method,
    check_method,
    explain,
    lay_on,
    overlay,
    paint,
    scale_of,
    shrink,
)
from biopsy.serving.inputs import find_images
from biopsy.serving.model import Model, describe
from biopsy.serving.predict import only_model

with extra("explain"):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

ENDING = "-explained.png"


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
    if os.path.lexists(out) and not out.is_dir():
        raise ParamsError(f"--out: {out} is not a folder. Name one.")
    path = path or only_model()
    images = _images(inputs)
    model = Model(path)
    check_method(model, method)
    out.mkdir(parents=True, exist_ok=True)  # before the work, in case it may not be made
    if not os.access(out, os.W_OK):
        raise MachineError(f"no permission to write into {out}. Change its mode (chmod u+w), or name another --out.")
    print(describe(model.card), file=sys.stderr)
    found, errors, stopped = _explain(model, images, method)
    limit, used, drawn = scale_of(list(found.values())), set[str](), 0  # one scale for the colours of all
    try:
        for image, explanation in found.items():
            target = out / f"{_free(image.stem, used)}{ENDING}"
            try:
                write_png(target, draw(image, explanation, model.card, limit))
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
    """Find the images, without the pictures that an earlier call drew: its folder may lie among them."""
    found = find_images(inputs)
    if packed := [image.path for image in found if image.member]:
        raise ParamsError(f"{packed[0]}: explain does not read .zip files. Unpack it, and name the folder.")
    images = [image.path for image in found if not image.path.name.endswith(ENDING)]
    if not images:
        raise DataError(f"all of these images are called *{ENDING}, so explain drew them. Name other images.")
    return images


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
                errors.append(str(error))
    except KeyboardInterrupt:  # what is known is drawn; another one stops that, too
        return found, errors, True
    return found, errors, False


def _free(stem: str, used: set[str]) -> str:
    """Number a name that an image of another folder has."""
    name, number = stem, 1
    while name.lower() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.lower())
    return name


def draw(path: Path, explanation: Explanation, card: Card, limit: float) -> Figure:
    """Draw an image and, beside it, the map laid on its grey copy. Raises `ImageError` where it cannot be read."""
    image = read_rgb(path, card.preparation.max_pixels)
    height, width = image.shape[:2]
    laid = lay_on(explanation.drops, height, width, card.preparation.resize)
    image, colours = shrink(image, laid), paint(laid, limit)
    figure = Figure((10, min(max(4.6 * height / width + 1.6, 4), 14)), layout=ConstrainedLayoutEngine())
    name = _shown(path.name)
    name = name if len(name) <= 80 else f"{name[:40]}…{name[-39:]}"
    title = f"{explanation.words}, probability {explanation.probability:.2f}\n{name}"
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
