"""A trained model as a person uses it: image files, bytes or arrays in, one row of probabilities an image out."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError, SourceError
from biopsy.images.prepare import prepare
from biopsy.networks.answers import BATCH, answer_images
from biopsy.networks.model_file import NOTICE, Card, load_model
from biopsy.networks.temperature import both_classes
from biopsy.serving.onnx_file import Network, load_network

Image = str | Path | bytes | NDArray[np.uint8]


class Model:
    """A model and its card; research use only, not for diagnosis.

    Attributes
    ----------
    card : Card
        What the model is: classes, preparation, protocol, threshold.
    facts : dict of str
        Of an .onnx file, its metadata; else empty.
    network
        The Keras model; None of an .onnx file.
    """

    def __init__(self, path: Path) -> None:
        """Load `models/<task>-<protocol>` in safe mode, or an .onnx file, once its bytes are checked. See `load`."""
        self.facts: dict[str, str] = {}
        self.network: Any = None
        self._onnx: Network | None = None
        if path.suffix.lower() == ".onnx":
            self._onnx, self.card = load_network(path)
            self.facts = self._onnx.facts
            return
        network, self.card = load_model(path)
        if self.card.extra_inputs:
            inputs = ", ".join(self.card.extra_inputs.inputs)
            raise SourceError(
                f"{path} needs more than images ({inputs}), and image files do not say it. Train a model with "
                "model.extra_inputs: []."
            )
        self.network = network

    def predict(self, images: Iterable[Image]) -> pd.DataFrame:
        """Predict images.

        Parameters
        ----------
        images
            Paths, bytes of image files, or uint8 arrays (height, width, 3), RGB.

        Returns
        -------
        DataFrame
            A row an image, in order: `image` (its path, or its number from 0), `predicted` (a class), `p_<class>` (0 to
            1, rows sum to 1), `error` (empty, or why the image has no prediction).
        """
        return pd.DataFrame(self.rows(images), columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns of `predict`."""
        return ["image", "predicted", *(f"p_{name}" for name in self.card.classes), "error"]

    def rows(self, images: Iterable[Image]) -> Iterator[dict[str, Any]]:
        """Yield the rows of `predict` one by one; a batch of images is in memory at a time."""
        numbered, size = enumerate(images), max(1, BATCH // self.card.preparation.views)
        while chunk := list(islice(numbered, size)):
            yield from self._batch(chunk)

    def _batch(self, chunk: list[tuple[int, Image]]) -> list[dict[str, Any]]:
        names = [str(image) if isinstance(image, str | Path) else str(number) for number, image in chunk]
        prepared, errors = [], []
        for _, image in chunk:
            try:
                prepared.append(prepare(Path(image) if isinstance(image, str) else image, self.card.preparation))
                errors.append("")
            except BiopsyError as error:
                errors.append(str(error))
        given = iter(self.probabilities(np.stack(prepared))) if prepared else iter(())
        return [
            self._row(name, error, None if error else next(given)) for name, error in zip(names, errors, strict=True)
        ]

    def probabilities(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """From images as `prepare` makes them, (n, views, size, size, 3), to probabilities (n, classes)."""
        if self._onnx:
            return self._onnx(views)
        given = answer_images(self.network, views.astype(np.float32), self.card.temperature)
        given = both_classes(given.astype(np.float64))
        return given / given.sum(1, keepdims=True)

    def choose(self, given: NDArray[np.float64]) -> int:
        """Return the place of the class that probabilities (classes,) stand for: of two, by the card's threshold."""
        return int(given[1] >= self.card.threshold) if len(given) == 2 else int(given.argmax())

    def _row(self, name: str, error: str, given: NDArray[np.float64] | None) -> dict[str, Any]:
        classes = self.card.classes
        values = [np.nan] * len(classes) if given is None else given.round(6).tolist()
        predicted = ""
        if given is not None:
            predicted = classes[self.choose(given)]
        return dict(zip(self.columns, [name, predicted, *values, error], strict=True))


def load(path: str | Path) -> Model:
    """Load a trained model: `load("models/binary-case").predict(["slide.png"])`. Research use only.

    Parameters
    ----------
    path
        A model's folder, or the .onnx file that `biopsy export` made of it, which needs neither TensorFlow nor Keras.

    Raises
    ------
    SourceError
        Files missing, edited or unsafe; or a model that needs more than images.
    """
    return Model(Path(path))


def describe(card: Card) -> str:
    """Say in one line what predicted, and for what it may be used."""
    origin = "trained on a synthetic sample; " if card.synthetic else ""
    return f"{card.task}, protocol {card.protocol}: {', '.join(card.classes)}; {origin}{NOTICE}"
