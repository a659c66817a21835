"""`biopsy explain`: for each image a picture of where the model looks, all on one colour scale."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from tqdm import tqdm

from biopsy.core.errors import BiopsyError, ParamsError
from biopsy.core.files import atomic_file
from biopsy.images.decode import read_rgb
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.explain import COLOURS, LOST, Explanation, explain, lay_on, paint, scale_of, shrink
from biopsy.serving.inputs import find_images
from biopsy.serving.model import Model, describe
from biopsy.serving.predict import only_model


def explain_files(inputs: Sequence[str], path: Path | None, out: Path) -> int:
    """Write `<name>-explained.png` for each image, and a line about it; return how many have none.

    Parameters
    ----------
    inputs, path
        As for `predict_files`.
    out
        The folder.

    Raises
    ------
    ParamsError, DataError, SourceError
        No image, no model or more than one, a file in the folder's place.
    """
    if out.exists() and not out.is_dir():
        raise ParamsError(f"--out: {out} is a file. Name a folder.")
    path = path or only_model()
    named = find_images(inputs)
    if packed := [image.path for image in named if image.member]:
        raise ParamsError(f"{packed[0]}: explain reads no .zip. Unpack it, and name the folder.")
    images = [image.path for image in named]
    model = Model(path)
    out.mkdir(parents=True, exist_ok=True)  # before the work, in case it may not be made
    print(describe(model.card), file=sys.stderr)
    found: dict[Path, Explanation] = {}  # drawn when all are known, for their colours have one scale
    errors = []
    for image in tqdm(images, "explain", unit="image", delay=2, file=sys.stderr):
        try:
            found[image] = explain(model, image)
        except BiopsyError as error:
            errors.append(str(error))
    limit, used = scale_of(list(found.values())), set[str]()
    for image, explanation in found.items():
        target = out / f"{_free(image.stem, used)}-explained.png"
        try:
            figure = draw(image, explanation, model.card, limit)
        except BiopsyError as error:  # gone since
            errors.append(str(error))
            continue
        with atomic_file(target) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in letters that the font lacks
            figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
        told = f"{explanation.predicted} {explanation.probability:.2f}; {explanation.scores}. {explanation.verdict}"
        print(f"{target}: {told}", flush=True)
    for sentence in errors:
        print(f"error: {sentence}", file=sys.stderr)
    return len(errors)


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
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    share = 0.6 * (colours[..., 3:] / 255)
    mixed = (grey * (1 - share) + colours[..., :3] * share).round().astype(np.uint8)
    figure = Figure((10, min(max(4.6 * height / width + 1.6, 4), 14)), layout=ConstrainedLayoutEngine())
    name = path.name if len(path.name) <= 80 else f"{path.name[:40]}…{path.name[-39:]}"
    title = f"{explanation.words}, probability {explanation.probability:.2f}\n{name}"
    figure.suptitle(title, parse_math=False)  # a name may hold two $
    axes = figure.subplots(1, 2)
    for axis, shown in zip(axes, (image, mixed), strict=True):
        axis.imshow(shown)
        axis.set_axis_off()
    bar = ScalarMappable(Normalize(-limit, limit), COLOURS)
    figure.colorbar(bar, ax=axes[1], label=LOST, shrink=0.9)
    unseen = " The model does not see the places without colour." if np.isnan(laid).any() else ""
    figure.supxlabel(f"{explanation.verdict}{unseen}\n{explanation.scores.capitalize()}. {NOTICE}", fontsize="small")
    return figure
