"""Where a model looks in one image: the map, its check in words, and the map laid on the image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import ParamsError
from biopsy.core.sections.data import Resize
from biopsy.images.prepare import prepare
from biopsy.images.resize import cut_tiles
from biopsy.serving.explain.occlusion import FLAT, Faithfulness, Floats, Subject, faithfulness, occlusion_map
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import MAPS, OUTPUT

# Matplotlib's managua_r to within 2 of 255, so that the server needs no Matplotlib. It is uniform to the eye, also to a
# colour-blind one: blue, dark, yellow.
COLOURS = bytes.fromhex(
    "80e7fe 75c7ec 6aa9d9 608ec6 5775b3 4f5d9c 4b457f 4d3261 562848"
    "682b3b 813839 9a4c3c b06242 c4794a d79252 ebaf5c ffcf67"
)
SHARE = 0.6  # of the map's colour where it is laid on an image
SIDE = 640  # pixels of the longer side of what is drawn, at most
LIKE = "log-odds of the class, if the whole image looked like this place"
METHODS = {
    "occlusion": "probability lost when this place is hidden",
    "activation": LIKE,
    "gradcam": LIKE,
    "deepshap": "probability added by this place, against training images",
}
Quick = Literal["occlusion", "activation", "gradcam"]  # enough for a server
Method = Literal[Quick, "deepshap"]


@dataclass(frozen=True)
class Explanation:
    """Why an image was given its class.

    Attributes
    ----------
    predicted, words
        The class, and what a person calls it.
    probability
        Its own.
    drops : float array of shape (views, cells, cells)
        See `occlusion_map`, `gradcam`; what the model's own activation map says of the class; or sums of `deepshap`.
    check : Faithfulness, or None
        An activation map is not checked: it costs one pass, and the check some 60.
    method
        Whose map it is.
    note
        What the method says of itself, a sentence or nothing.
    """

    predicted: str
    words: str
    probability: float
    drops: Floats
    check: Faithfulness | None = None
    method: Method = "occlusion"
    note: str = ""

    @property
    def flat(self) -> bool:
        """Whether no place matters."""
        return bool(np.abs(self.drops).max() < FLAT)

    @property
    def trusted(self) -> bool:
        """Whether the map names places that matter more than others."""
        return bool(self.check and self.check.better) and not self.flat

    @property
    def verdict(self) -> str:
        """Say in a sentence whether the map can be trusted."""
        if self.check is None:
            return (
                "Not checked, and edges may stand out only because of padding. The map by occlusion is slower, but is "
                "checked by hiding places."
            )
        if self.flat and self.method != "occlusion":
            return f"Flat: no place speaks for or against the class by {FLAT:g}."
        if self.flat:
            rest = "only hiding many does" if self.check.better else "no region stands out"
            return f"Flat: hiding any one place changes the probability by less than {FLAT:g}; {rest}."
        if self.trusted:
            return "The places that the map names matter more than random ones."
        return "The map is no better than a random order of places: do not rely on it."

    @property
    def scores(self) -> str:
        """Give the figures of the check."""
        if (check := self.check) is None:
            return "no check"
        return f"deletion {check.deletion:.2f}, insertion {check.insertion:.2f}, a random order {check.random:.2f}"


def methods_of(model: Model) -> list[str]:
    """Name the quick methods that a model's predictions can be explained with, the one to begin with first."""
    quick = ["activation"] if MAPS in model.gives else []
    return [*quick, "occlusion", *(["gradcam"] if model.network and _has_maps(model.network) else [])]


def first_method(model: Model) -> Method:
    """Return the method to begin with: the activation map where the model gives one, else by hiding places."""
    return "activation" if MAPS in model.gives else "occlusion"


def _has_maps(network: Any) -> bool:
    from biopsy.serving.explain.gradcam import pooled_maps  # brings Keras, which is here where there is a network

    return bool(pooled_maps(network))


def check_method(model: Model, method: Method) -> None:
    """Raise `ParamsError` where a model gives no activation map, or no gradient."""
    if method in methods_of(model) or (method == "deepshap" and model.network):
        return
    if method == "activation":
        raise ParamsError(
            "this model gives no activation map. Use the method 'occlusion', or, where its head sees the mean of one "
            "feature map, the .onnx file that `biopsy export` makes of it now."
        )
    if model.network:
        raise ParamsError(
            "the head of this model sees one vector, not a map, so Grad-CAM has no places. Use the method 'occlusion'."
        )
    raise ParamsError(
        f"the method '{method}' needs gradients, which an .onnx file does not give. Name the model's folder, such as "
        "models/binary-case, where the extra `pipeline` is installed, or use the method 'occlusion'."
    )


def explain(model: Model, source: Path | bytes | NDArray[np.uint8], method: Method = "occlusion") -> Explanation:
    """Explain one prediction.

    Parameters
    ----------
    model, source
        The image is prepared for the model.
    method
        'occlusion' asks the model about some 140 changed copies of the image, 'gradcam' about the 60 that check its
        map; 'activation' asks once, 'deepshap' compares with training images. See `check_method`.

    Raises
    ------
    BiopsyError
        The image cannot be used, as in `prepare`.
    """
    views, card = prepare(source, model.card.preparation), model.card
    if method == "activation":
        given, maps = (found[0] for found in model.ask(views[None], OUTPUT, MAPS))
    else:
        given = model.probabilities(views[None])[0]
    index = model.choose(given)
    found = card.labels[card.task].classes[index]
    about = found.name, found.words, float(given[index])
    if method == "activation":
        return Explanation(*about, maps[:, index], method=method)
    subject = Subject(model.probabilities, views, index)
    if method == "occlusion":
        drops = occlusion_map(subject)
        return Explanation(*about, drops, faithfulness(subject, drops))
    side = subject.cells, subject.cells  # those that occlusion is checked by
    if method == "gradcam":
        from biopsy.serving.explain.gradcam import gradcam

        drops = gradcam(model.network, views, index)
        cells = np.stack([cv2.resize(one, side, interpolation=cv2.INTER_AREA) for one in drops])
        return Explanation(*about, drops, faithfulness(subject, cells), method)
    from biopsy.serving.explain.deepshap import background_of, deepshap

    found_by = deepshap(model.network, views, index, background_of(card, model.path))
    width = views.shape[1] / subject.cells
    cells = width**2 * np.stack([cv2.resize(one, side, interpolation=cv2.INTER_AREA) for one in found_by.values])
    return Explanation(*about, cells, faithfulness(subject, cells), method, found_by.words)


def scale_of(explanations: list[Explanation]) -> float:
    """Return the one limit of the colours of several maps: their largest value, rounded up, at least `FLAT`.

    Except for occlusion it is the 98th percentile: a few places at an edge can be many times larger than the rest.
    """
    found = [np.percentile(np.abs(e.drops), 100 if e.method == "occlusion" else 98) for e in explanations]
    largest = float(max([FLAT, *found]))
    step = 100 if largest < 1 else 1
    return float(np.ceil(largest * step) / step)


def lay_on(drops: Floats, height: int, width: int, resize: Resize) -> Floats:
    """Put the maps of the views where these were taken from.

    Parameters
    ----------
    drops
        (views, cells, cells).
    height, width
        Of the image in pixels.
    resize
        How the views were made of it.

    Returns
    -------
    numpy.ndarray
        (height, width), both reduced to at most `SIDE`; the mean where views overlap, NaN where the model saw nothing.
    """
    scale = min(1.0, SIDE / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    total, seen = np.zeros(shape), np.zeros(shape)
    for drop, (top, left, down, across) in zip(drops, boxes(height, width, resize), strict=True):
        y, x = round(top * scale), round(left * scale)
        bottom, right = max(y + 1, round((top + down) * scale)), max(x + 1, round((left + across) * scale))
        laid = cv2.resize(drop, (right - x, bottom - y), interpolation=cv2.INTER_LINEAR)
        rows, columns = slice(max(y, 0), min(bottom, shape[0])), slice(max(x, 0), min(right, shape[1]))
        total[rows, columns] += laid[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        seen[rows, columns] += 1
    return np.divide(total, seen, out=np.full(shape, np.nan), where=seen > 0)


def boxes(height: int, width: int, resize: Resize) -> list[tuple[float, float, float, float]]:
    """Return top, left, height and width of each view in pixels of the image; a padded one reaches beyond it."""
    if resize.mode == "tiles":
        rows = np.broadcast_to(np.arange(height)[:, None], (height, width))
        columns = np.broadcast_to(np.arange(width), (height, width))
        cut: list[Any] = [cut_tiles(place, resize.tiles) for place in (rows, columns)]  # type: ignore[arg-type]
        side = min(resize.tiles.px, height, width)
        return [(int(row[0, 0]), int(column[0, 0]), side, side) for row, column in zip(*cut, strict=True)]
    if resize.mode == "stretch":
        return [(0, 0, height, width)]
    side = min(height, width) if resize.mode == "crop" else max(height, width)
    return [((height - side) // 2, (width - side) // 2, side, side)]


def paint(laid: Floats, limit: float) -> NDArray[np.uint8]:
    """Colour a map, (height, width, 4) RGBA; transparent where it is NaN."""
    known = np.frombuffer(COLOURS, np.uint8).reshape(-1, 3)
    place = 0.5 + np.nan_to_num(laid) / (2 * limit)
    channels = [np.interp(place, np.linspace(0, 1, len(known)), channel) for channel in known.T]
    return np.stack([*channels, np.where(np.isnan(laid), 0, 255)], -1).round().astype(np.uint8)


def overlay(image: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay colours, (height, width, 4) RGBA, on a grey copy of an image, (height, width, 3)."""
    share = SHARE * (colours[..., 3:] / 255)
    mixed = image.mean(axis=2, keepdims=True) * (1 - share) + colours[..., :3] * share
    return np.asarray(mixed.round(), np.uint8)


def scale_colours(limit: float) -> list[str]:
    """Return the colours of a map from -limit to limit as CSS, for a scale beside it."""
    return [
        "#{:02x}{:02x}{:02x}".format(*colour[:3]) for colour in paint(np.linspace(-limit, limit, 21)[None], limit)[0]
    ]


def peak_of(laid: Floats) -> tuple[float, float, float]:
    """Find the largest value of a map, (height, width): its places from the left and the top, 0 to 1, and itself."""
    y, x = np.unravel_index(np.nanargmax(laid), laid.shape)
    return x / laid.shape[1], y / laid.shape[0], float(laid[y, x])


def shrink(image: NDArray[np.uint8], laid: Floats) -> NDArray[np.uint8]:
    """Bring an image to the size of the map that is laid on it."""
    return np.asarray(cv2.resize(image, laid.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
