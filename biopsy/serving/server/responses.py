"""What the HTTP interface answers about images: one JSON object an image, whatever happens to it."""

import base64
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import NO_MEMORY, BiopsyError
from biopsy.images.decode import read_rgb
from biopsy.serving.cases import is_unsure
from biopsy.serving.decoding import UNNAMED, Decoder, named, prepare_image, told
from biopsy.serving.explain.image import (
    METHODS,
    Explanation,
    Method,
    boxes,
    explain,
    lay_on,
    paint,
    peak_of,
    scale_colours,
    scale_of,
)
from biopsy.serving.model import Answer, Model
from biopsy.serving.server.schema import Prediction

Images = Sequence[tuple[str, bytes]]
PICTURE = 1600  # pixels of the longer side of the image beside its map, at most: enough to enlarge it


@dataclass(frozen=True)
class ExplainOptions:
    """How images are to be explained.

    Attributes
    ----------
    picture
        Whether each row has the image, of at most `PICTURE`: browsers show no TIFF, and turn what has an EXIF tag.
    numbers
        Whether each row has the map's values, view by view.
    method
        See `explain`.
    """

    picture: bool = False
    numbers: bool = False
    method: Method = "occlusion"


def begin_images(model: Model, images: Images, decoder: Decoder) -> list[tuple[str, Future[Any]]]:
    """Let images be prepared for a model, while it is busy with others."""
    hashed = model.learnt is not None
    return [(name, decoder.begin_prepare(data, model.card.preparation, hashed)) for name, data in images]


def predicted_rows(
    model: Model,
    images: Sequence[tuple[str, bytes | Future[Any]]],
    decoder: Decoder | None = None,
    unsure: float | None = None,
) -> list[Prediction]:
    """Predict; an unforeseen failure is a row, too. With a decoder, `images` are those of `begin_images`.

    `unsure`: the largest probability below which an answer is too unsure; None: not known.
    """
    try:
        given: list[Any] = [data for _, data in images]
        read = partial(prepare_image, preparation=model.card.preparation, hashed=model.learnt is not None, looked=True)
        given = decoder.finish(given) if decoder else [told(read, image) for image in given]
        return [_row(model, name, one, unsure) for (name, _), one in zip(images, model.answer(given), strict=True)]
    except Exception as error:
        if len(images) > 1:
            return [row for image in images for row in predicted_rows(model, [image], decoder, unsure)]
        return [_row(model, images[0][0], Answer(np.empty(0), _told(error)), unsure)]


def _row(model: Model, name: str, given: Answer, unsure: float | None) -> Prediction:
    row, similar = model.row(name, given), list[Any]()
    if model.similar and given.distances is not None:
        similar = model.similar.nearest(given.distances)
    return {
        "image": name,
        "predicted": row["predicted"] or None,
        "probabilities": None if row["error"] else {c: row[f"p_{c}"] for c in model.card.classes},
        "error": row["error"] or None,
        "abstain": None if unsure is None or row["error"] else is_unsure(given.probabilities, unsure),
        "in_training": row["in_training"],
        "unlike_training": None if given.unlike is None or row["error"] else list(given.unlike),
        "similar": similar or None,
    }


def explained_rows(
    model: Model, images: Images, asked: ExplainOptions, decoder: Decoder | None = None
) -> dict[str, Any]:
    """Explain images on one colour scale."""
    found: list[Explanation | str] = []
    for name, data in images:
        try:
            found.append(explain(model, _pixels(model, data, decoder), asked.method))
        except Exception as error:
            found.append(named(_told(error), name))
    limit = scale_of([e for e in found if isinstance(e, Explanation)])
    rows = []
    for (name, data), e in zip(images, found, strict=True):
        told: dict[str, Any] = {"predicted": None, "error": e}
        if isinstance(e, Explanation):
            try:
                pixels = _pixels(model, data, decoder)  # again, so that four large images are not held at once
                told = {**_explained(model, pixels, e, limit, asked), "error": None}
            except Exception as error:
                told["error"] = named(_told(error), name)
        rows.append({"image": name, **told})
    return {
        "scale": {
            "limit": limit,
            "method": asked.method,
            "words": METHODS[asked.method],
            "colours": scale_colours(limit),
        },
        "explanations": rows,
    }


def _pixels(model: Model, data: bytes, decoder: Decoder | None) -> NDArray[np.uint8]:
    most = model.card.preparation.max_pixels
    return decoder.read(data, most) if decoder else read_rgb(data, most)


def _explained(
    model: Model, image: NDArray[np.uint8], e: Explanation, limit: float, asked: ExplainOptions
) -> dict[str, Any]:
    preparation = model.card.preparation
    height, width = image.shape[:2]
    laid = lay_on(e.drops, height, width, preparation.resize)
    across, down, lost = peak_of(laid)
    row: dict[str, Any] = {
        "predicted": e.predicted,
        "probability": round(e.probability, 6),
        "flat": e.flat,
        "trusted": e.trusted if e.check else None,
        "deletion": round(e.check.deletion, 4) if e.check else None,
        "insertion": round(e.check.insertion, 4) if e.check else None,
        "random_order": round(e.check.random, 4) if e.check else None,
        "verdict": e.verdict,
        "scores": e.scores,
        "peak": {"x": round(across, 3), "y": round(down, 3), "lost": round(lost, 4)},
        "overlay": _url(cv2.cvtColor(paint(laid, limit), cv2.COLOR_RGBA2BGRA), "png"),
    }
    if asked.picture:
        scale = min(1.0, PICTURE / max(height, width))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        row["picture"] = _url(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), "jpeg")
    if asked.numbers:
        places = zip(boxes(height, width, preparation.resize), e.drops, strict=True)
        row["views"] = [{"top_left_height_width": box, "lost": drop.round(4).tolist()} for box, drop in places]
    return row


def _url(image: Any, kind: str) -> str:
    content: NDArray[np.uint8] = cv2.imencode(f".{kind}", image)[1]
    return f"data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}"


def _told(error: Exception) -> str:
    """Say what went wrong with an image; print an unforeseen error for whoever runs the server."""
    if isinstance(error, BiopsyError):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    return NO_MEMORY if isinstance(error, MemoryError) else f"{UNNAMED} cannot be used"
