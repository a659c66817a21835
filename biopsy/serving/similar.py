"""The training images as a model sees them: which are most like an image, and whether it is far from all of them.

The distance is that of deep nearest neighbours (Sun et al., 2022, arXiv 2204.06507): of features of length one.
"""

import base64
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from biopsy.core.errors import BiopsyError, SourceError
from biopsy.core.record import Record
from biopsy.core.shards import files_of, is_there
from biopsy.images.looks.record import HIGH, LOW, MARGIN, Range
from biopsy.images.preparation.record import images_of
from biopsy.networks.answers import images_at_once
from biopsy.networks.model_file import Card
from biopsy.serving.onnx_file import FEATURES, Network
from biopsy.serving.training_images import table_of

if TYPE_CHECKING:
    import pandas as pd

MOST, HELD = 2000, 500  # training and validation images, evenly spaced, that are measured
LEAST = 10  # validation images: of fewer, nothing usual is known
FEW = 5  # training images nearby, whose mean distance is an image's distance
SHOWN = 3
SIDE = 96  # pixels of a picture
Kept = Literal["names", "pictures", "none"]


class Similar(Record):
    """Features of training images, as an exported file holds them.

    Attributes
    ----------
    width, features
        base64 of float16 (n, width), rows of length one.
    classes
        Of each image.
    images, pictures
        Of each, its name and a small JPEG in base64; None: not told.
    usual
        The distance of validation images; None: too few.
    """

    width: int = Field(ge=1)
    features: str
    classes: list[str] = Field(min_length=1)
    images: list[str] | None = None
    pictures: list[str] | None = None
    usual: Range | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if any(len(part) != len(self.classes) for part in (self.images, self.pictures) if part is not None):
            raise ValueError("its lists differ in length")
        if len(base64.b64decode(self.features, validate=True)) != 2 * self.width * len(self.classes):
            raise ValueError("its features are not of all images")
        return self

    @cached_property
    def _known(self) -> NDArray[np.float32]:
        found = np.frombuffer(base64.b64decode(self.features), np.float16)
        return _unit(found.reshape(-1, self.width))

    def distances(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return the distance, 0 to 2, of features (m, width) from each training image, (m, n)."""
        return np.sqrt(np.maximum(2 - 2 * (_unit(features) @ self._known.T), 0)).astype(np.float64)

    def far(self, distances: NDArray[np.float64]) -> bool:
        """Say whether an image of distances (n,) lies farther from training than validation images usually do."""
        if self.usual is None:
            return False
        margin = MARGIN * (self.usual.high - self.usual.low)
        return bool(_mean_of_few(distances[None])[0] > self.usual.high + margin)

    def nearest(self, distances: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Name the training images most like one whose distances are (n,); none where they may not be told."""
        if self.images is None:
            return []
        return [
            {
                "image": self.images[i],
                "class": self.classes[i],
                "distance": round(float(distances[i]), 4),
                **({"picture": f"data:image/jpeg;base64,{self.pictures[i]}"} if self.pictures else {}),
            }
            for i in np.argsort(distances, kind="stable")[:SHOWN]
        ]


def _unit(features: NDArray[Any]) -> NDArray[np.float32]:
    found = np.asarray(features, np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _mean_of_few(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    few = min(FEW, distances.shape[1])
    return np.asarray(np.partition(distances, few - 1, axis=1)[:, :few].mean(axis=1))


def read_similar(facts: dict[str, str], path: Path) -> Similar | None:
    """Read what `measure` found from the metadata of an .onnx file; None: it holds nothing of the kind."""
    if facts.get("similar", "null") == "null":
        return None
    try:
        return Similar.model_validate_json(facts["similar"], strict=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise SourceError(f"{path}: its training images cannot be used ({reason}). Export it again.") from None


def measure(network: Network, card: Card, folder: Path, kept: Kept = "names") -> Similar | None:
    """Compute the features of a model's training images.

    Parameters
    ----------
    network
        The exported file.
    card, folder
        Of the model, in its project: see `learnt_from`.
    kept
        What is told of an image beside its class: nothing, its name, or its name and a small picture.

    Returns
    -------
    Similar or None
        None where the network gives no features, or the project's tables and prepared images are not the model's.
    """
    if FEATURES not in network.gives:
        return None
    if (parts := learnt_images(card, folder, MOST, HELD)) is None:
        return None
    train = parts[0]
    (features, small), (held, _) = (_features(network, list(part["file"]), card) for part in parts)
    known = Similar(
        width=features.shape[1],
        features=base64.b64encode(_unit(features).astype(np.float16).tobytes()).decode(),
        classes=[card.classes[i] for i in train["target"]],
        images=list(train["image_id"]) if kept != "none" else None,
        pictures=small if kept == "pictures" else None,
    )
    if len(held) < LEAST:
        return known
    usual = np.percentile(_mean_of_few(known.distances(held)), (LOW, 50, HIGH)).round(4).tolist()
    return known.model_copy(update={"usual": Range(low=usual[0], median=usual[1], high=usual[2])})


def learnt_images(card: Card, folder: Path, train: int, val: int) -> "tuple[pd.DataFrame, pd.DataFrame] | None":
    """Find prepared images that a model has learnt from.

    Parameters
    ----------
    card, folder
        Of the model, in its project: see `learnt_from`.
    train, val
        How many of each part, evenly spaced.

    Returns
    -------
    (DataFrame, DataFrame) or None
        Rows of `read_parts` with their files; None where the tables or the images are not the model's, or not here.
    """
    try:
        if (found := table_of(card, folder)) is None:
            return None
        tree, preparation = images_of(found[1], card.protocol, card.fold)
    except BiopsyError:  # no such tree, or tables of another version
        return None
    chosen = []
    for part, most in (("train", train), ("val", val)):
        rows = found[0][found[0]["part"] == part]
        rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
        files = dict(zip(rows["image_id"], files_of(tree, rows["image_id"]), strict=True))
        chosen.append(rows.assign(file=rows["image_id"].map(files).astype(object)))
    there = all(is_there(path) for rows in chosen for path in rows["file"])
    return (chosen[0], chosen[1]) if there and len(chosen[0]) and preparation == card.preparation else None


def chunks(files: list[Path], card: Card) -> Iterator[NDArray[np.uint8]]:
    """Read prepared images, (n, views, size, size, 3), as many at a time as the network sees at once."""
    from biopsy.tables.split.parts import read_views  # pandas: a second

    step = images_at_once(card.preparation.views)
    for start in range(0, len(files), step):
        yield read_views(files[start : start + step], card.preparation.size, card.preparation.views)


def _features(network: Network, files: list[Path], card: Card) -> tuple[NDArray[np.float32], list[str]]:
    """Return features (n, width) and small pictures of prepared images."""
    found, small = list[NDArray[np.float64]](), []
    for images in chunks(files, card):
        (features,) = network.ask(images, FEATURES)
        found.append(features)
        for image in images[:, 0]:
            shrunk = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(shrunk, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
            small.append(base64.b64encode(jpeg.tobytes()).decode())
    return np.concatenate(found or [np.empty((0, 1))]).astype(np.float32), small
