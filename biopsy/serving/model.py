"""A trained model as a person uses it: image files, bytes or arrays in, one row of probabilities an image out."""

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError, MachineError, SourceError
from biopsy.images.prepare import prepare
from biopsy.networks.answers import BATCH, answer_images
from biopsy.networks.model_file import NOTICE, Card, load_model, read_card
from biopsy.networks.temperature import both_classes
from biopsy.serving.extras import extra
from biopsy.serving.onnx_file import Network, load_network, open_file

if TYPE_CHECKING:
    import pandas as pd

Image = str | Path | bytes | NDArray[np.uint8]
Answer = NDArray[np.float64] | str
T = TypeVar("T")


class Model:
    """A model and its card; research use only, not for diagnosis.

    Attributes
    ----------
    card : Card
        What the model is: classes, preparation, protocol, threshold.
    facts : dict of str
        Of an .onnx file, its metadata; of a folder what `serve` adds.
    network
        The Keras model; None of an .onnx file.
    """

    def __init__(self, path: Path) -> None:
        """Load `models/<task>-<protocol>` in safe mode, or an .onnx file, once its bytes are checked. See `load`."""
        self.facts: dict[str, str] = {}
        self.network: Any = None
        self._onnx: Network | None = None
        if exported := _exported(path):
            self._onnx, self.card = load_network(exported)
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

    def predict(self, images: Iterable[Image]) -> "pd.DataFrame":
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
        with extra("predict"):
            import pandas as pd  # a second, which the command and the server need not spend

        return pd.DataFrame(self.rows(images), columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns of `predict`."""
        return ["image", "predicted", *(f"p_{name}" for name in self.card.classes), "error"]

    def rows(self, images: Iterable[Image]) -> Iterator[dict[str, Any]]:
        """Yield the rows of `predict` one by one; a batch of images is in memory at a time."""
        named = (
            (str(image) if isinstance(image, str | Path) else str(number), image) for number, image in enumerate(images)
        )
        for name, given in self.answers(named):
            yield self.row(name, given)

    def answers(self, images: Iterable[tuple[T, Image | Callable[[], Image]]]) -> Iterator[tuple[T, Answer]]:
        """Answer images one by one, in order.

        Parameters
        ----------
        images
            Each behind what is handed on with its answer, or a function that reads it when its turn comes.

        Yields
        ------
        (T, float64 array of shape (classes,), or str)
            Calibrated probabilities, or why there are none.
        """
        given, size = iter(images), max(1, BATCH // self.card.preparation.views)
        while chunk := list(islice(given, size)):
            yield from self._batch(chunk)

    def _batch(self, chunk: list[tuple[T, Image | Callable[[], Image]]]) -> list[tuple[T, Answer]]:
        prepared, errors = [], []
        for _, image in chunk:
            try:
                source = image() if callable(image) else image
                prepared.append(prepare(Path(source) if isinstance(source, str) else source, self.card.preparation))
                errors.append("")
            except BiopsyError as error:
                errors.append(str(error))
        given = iter(self.probabilities(np.stack(prepared))) if prepared else iter(())
        return [(about, error or next(given)) for (about, _), error in zip(chunk, errors, strict=True)]

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

    def row(self, name: str, given: Answer) -> dict[str, Any]:
        """Put an answer into a row of `predict`."""
        error, values, predicted = given if isinstance(given, str) else "", [np.nan] * len(self.card.classes), ""
        if not isinstance(given, str):
            values, predicted = given.round(6).tolist(), self.card.classes[self.choose(given)]
        return dict(zip(self.columns, [name, predicted, *values, error], strict=True))


def _exported(path: Path) -> Path | None:
    """Find the .onnx file to load: the path itself, or that of its folder's model where Keras is not installed."""
    inside, beside = path / "model.onnx", path.parent.parent / "exports" / f"{path.name}.onnx"
    if path.suffix.lower() == ".onnx":
        return path
    if inside.is_file() and not (path / "model.keras").exists():
        return inside
    if find_spec("keras"):
        return None
    sha = read_card(path).model_sha256
    for found in (inside, beside):
        if found.is_file() and open_file(found)[2].model_sha256 == sha:
            return found
    raise MachineError(
        f"{path} is a Keras model, and {sys.executable} has no Keras. Where the model was made, run "
        f"`biopsy export {path}` and name the .onnx file that it writes; or install the extra `pipeline`."
    )


def load(path: str | Path) -> Model:
    """Load a trained model: `load("models/binary-case").predict(["slide.png"])`. Research use only.

    Parameters
    ----------
    path
        A model's folder, or the .onnx file that `biopsy export` made of it, which needs neither TensorFlow nor Keras.
        Without Keras a folder stands for its exported file: `model.onnx` in it, or `exports/<name>.onnx`.

    Raises
    ------
    SourceError
        Files missing, edited or unsafe; or a model that needs more than images.
    MachineError
        A package is not installed.
    """
    return Model(Path(path))


def describe(card: Card) -> str:
    """Say in one line what predicted, and for what it may be used."""
    origin = "trained on a synthetic sample; " if card.synthetic else ""
    return f"{card.task}, protocol {card.protocol}: {', '.join(card.classes)}; {origin}{NOTICE}"
