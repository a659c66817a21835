"""A trained model as a person uses it: image files, bytes or arrays in, one row of probabilities an image out."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError, SourceError
from biopsy.core.extras import extra
from biopsy.networks.answers import BATCH, answer_images
from biopsy.networks.model_file import NOTICE, Card, load_model
from biopsy.networks.temperature import both_classes
from biopsy.serving.decoding import Image, Prepared, named, prepare_image
from biopsy.serving.onnx_file import FEATURES, OUTPUT, Network, exported_file, load_network
from biopsy.serving.revision import find_model
from biopsy.serving.similar import Similar, read_similar
from biopsy.serving.training_images import learnt_from, pixel_key, unpacked

if TYPE_CHECKING:
    import pandas as pd

Given = Image | Prepared | BiopsyError  # an image, or what came of preparing it
T = TypeVar("T")
R = TypeVar("R")
THREADS = os.cpu_count() or 1
NO_NUMBER = "the model gives no number for this image: its training diverged, or its file is of another kind"
Seen = Callable[[T, NDArray[np.uint8]], None]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one image.

    Attributes
    ----------
    probabilities : float64 array of shape (classes,)
        Calibrated; empty where there is an error.
    error
        Why there are none.
    learnt
        Whether the image was one of the model's training or validation images; None: not known.
    features : float64 array of shape (width,), or None
        What the head sees, where the model has `similar`.
    """

    probabilities: NDArray[np.float64]
    error: str = ""
    learnt: bool | None = None
    features: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Take what is no number for no answer: a class would be called of it all the same."""
        if not np.isfinite(self.probabilities).all():
            object.__setattr__(self, "probabilities", np.empty(0))
            object.__setattr__(self, "error", NO_NUMBER)


class Model:
    """A model and its card; research use only, not for diagnosis.

    Attributes
    ----------
    path : Path
        Where it was found.
    card : Card
        What the model is: classes, preparation, protocol, threshold.
    facts : dict of str
        Of an .onnx file, its metadata; of a folder what `serve` adds.
    network
        The Keras model; None of an .onnx file.
    learnt : frozenset of bytes, or None
        The keys of its training and validation images (`training_images.learnt_from`); None where they are not known.
    similar : Similar, or None
        The features of its training images, of an .onnx file that holds them.
    """

    def __init__(self, path: Path) -> None:
        """Load `models/<task>-<protocol>` in safe mode, or an .onnx file, once its bytes are checked. See `load`."""
        self.path = path
        self.facts: dict[str, str] = {}
        self.network: Any = None
        self._onnx: Network | None = None
        self.similar: Similar | None = None
        if exported := exported_file(path):
            self._onnx, self.card = load_network(exported)
            self.facts = self._onnx.facts
            self.learnt = unpacked(self.facts.get("learnt_from", ""))
            self.similar = read_similar(self.facts, exported) if FEATURES in self.gives else None
            return
        network, self.card = load_model(path)
        if self.card.extra_inputs:
            inputs = ", ".join(self.card.extra_inputs.inputs)
            raise SourceError(
                f"{path} needs more than images ({inputs}), which image files do not hold. Train a model with "
                "model.extra_inputs: []."
            )
        self.network = network
        self.learnt = learnt_from(self.card, path)

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
            1, rows sum to 1), `error` (empty, or why the image has no prediction), `in_training` (whether it has the
            pixels of a training or validation image; None: not known).
        """
        with extra("predict"):
            import pandas as pd  # a second, which the command and the server need not spend

        return pd.DataFrame(self.rows(images), columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns of `predict`."""
        return ["image", "predicted", *(f"p_{name}" for name in self.card.classes), "error", "in_training"]

    def rows(self, images: Iterable[Image]) -> Iterator[dict[str, Any]]:
        """Yield the rows of `predict` one by one; few images are in memory at a time."""
        numbered = (((number, image), image) for number, image in enumerate(images))
        for (number, image), given in self.answers(numbered):
            if isinstance(image, str | Path):
                yield self.row(str(image), given)
            else:
                yield self.row(str(number), replace(given, error=named(given.error, f"image {number}")))

    def answers(
        self, images: Iterable[tuple[T, Given | Callable[[], Given]]], seen: Seen[T] | None = None
    ) -> Iterator[tuple[T, Answer]]:
        """Answer images one by one, in order.

        Parameters
        ----------
        images
            Each behind what is handed on with its answer, or a function that reads it when its turn comes.
        seen
            Told of each image that can be read, before its answer and in some thread: what is handed on, and what the
            network sees, (views, size, size, 3).

        Yields
        ------
        (T, Answer)
        """
        if self._onnx:  # which any number of threads may ask: each image is prepared and answered in one of them
            yield from _in_turn(partial(self._answer, seen), images, 2 * THREADS)
            return
        size = max(1, BATCH // self.card.preparation.views)
        prepared = _in_turn(partial(self._prepare, seen), images, size)  # the next batch, while the network works
        while chunk := list(islice(prepared, size)):
            yield from zip((about for about, _ in chunk), self.answer([image for _, image in chunk]), strict=True)

    def answer(self, images: Sequence[Prepared | BiopsyError]) -> Iterator[Answer]:
        """Answer prepared images in order, as many in one run of the network as it takes; an error has no answer."""
        views = [image.views for image in images if isinstance(image, Prepared)]
        size, found = max(1, BATCH // self.card.preparation.views), list[tuple[Any, Any]]()
        for start in range(0, len(views), size):
            part = np.stack(views[start : start + size])
            asked = self.ask(part, OUTPUT, FEATURES) if self.similar else [self.probabilities(part), [None] * len(part)]
            found += zip(*asked, strict=True)
        answers = iter(found)
        for image in images:
            if isinstance(image, Prepared):
                learnt = None if self.learnt is None else pixel_key(image.pixels_sha256) in self.learnt
                probabilities, features = next(answers)
                yield Answer(probabilities, learnt=learnt, features=features)
            else:
                yield Answer(np.empty(0), str(image))

    def _answer(self, seen: Seen[T] | None, about: T, image: Given | Callable[[], Given]) -> Answer:
        return next(self.answer([self._prepare(seen, about, image)]))

    def _prepare(self, seen: Seen[T] | None, about: T, image: Given | Callable[[], Given]) -> Prepared | BiopsyError:
        try:
            source = image() if callable(image) else image
            if isinstance(source, BiopsyError):
                return source
            if not isinstance(source, Prepared):
                source = prepare_image(source, self.card.preparation, self.learnt is not None)
            if seen:
                seen(about, source.views)
        except BiopsyError as error:
            return error
        return source

    def probabilities(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """From images as `prepare` makes them, (n, views, size, size, 3), to probabilities (n, classes)."""
        if self._onnx:
            return self._onnx(views)
        given = answer_images(self.network, views.astype(np.float32), self.card.temperature, self.card.tta)
        given = both_classes(given.astype(np.float64))
        return given / given.sum(1, keepdims=True)

    @property
    def gives(self) -> frozenset[str]:
        """What `ask` can give beside probabilities: nothing of a folder, whose network is Keras's."""
        return self._onnx.gives if self._onnx else frozenset()

    def ask(self, views: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float64]]:
        """Ask an exported file for some of its outputs in one pass. See `Network.ask`."""
        assert self._onnx
        return self._onnx.ask(views, *outputs)

    def choose(self, given: NDArray[np.float64]) -> int:
        """Return the place of the class that probabilities (classes,) stand for: of two, by the card's threshold.

        Raises `SourceError` where they are no numbers.
        """
        if not np.isfinite(given).all():
            raise SourceError(NO_NUMBER)
        return int(given[1] >= self.card.threshold) if len(given) == 2 else int(given.argmax())

    def row(self, name: str, given: Answer) -> dict[str, Any]:
        """Put an answer into a row of `predict`."""
        values, predicted = [np.nan] * len(self.card.classes), ""
        if not given.error:
            values = given.probabilities.round(6).tolist()
            predicted = self.card.classes[self.choose(given.probabilities)]
        error = named(given.error, name)
        return dict(zip(self.columns, [name, predicted, *values, error, given.learnt], strict=True))


def _in_turn(work: Callable[[T, Any], R], items: Iterable[tuple[T, Any]], ahead: int) -> Iterator[tuple[T, R]]:
    """Do some work in threads and yield what comes of it in order; at most `ahead` items wait to be taken."""
    with ThreadPoolExecutor(THREADS, "predict") as pool:
        begun = deque[tuple[T, Future[R]]]()
        for about, item in items:
            begun.append((about, pool.submit(work, about, item)))
            if len(begun) > ahead:
                first, done = begun.popleft()
                yield first, done.result()
        for first, done in begun:
            yield first, done.result()


def load(path: str | Path) -> Model:
    """Load a trained model: `load("models/binary-case").predict(["slide.png"])`. Research use only.

    Parameters
    ----------
    path
        A model's folder, or the .onnx file that `biopsy export` made of it, which needs neither TensorFlow nor Keras.
        Without Keras a folder stands for its exported file: `model.onnx` in it, or `exports/<name>.onnx`.
        `repository@revision:path`, such as '.@main:models/binary-case', fetches either with DVC.

    Raises
    ------
    SourceError
        Files missing, edited or unsafe; or a model that needs more than images.
    MachineError
        A package is not installed.
    """
    return Model(find_model(path))


def describe(card: Card) -> str:
    """Say in one line what predicted, and for what it may be used."""
    origin = "trained on a synthetic sample; " if card.synthetic else ""
    if card.members:
        origin += (
            f"the mean of {len(card.members)} models, which has no figures of its own on unseen patients (those of a "
            "cross-validation are of each model alone); "
        )
    return f"{card.task}, protocol {card.protocol}: {', '.join(card.classes)}; {origin}{NOTICE} {card.terms}".strip()
