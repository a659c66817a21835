"""A trained model as a person uses it: image files, bytes or arrays in, one row of probabilities an image out."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError, SourceError, UnsuitableModelError
from biopsy.core.extras import extra
from biopsy.networks.answers import answer_images, images_at_once
from biopsy.networks.model_file import NOTICE, Card, load_model
from biopsy.networks.temperature import both_classes
from biopsy.serving.answering import NO_NUMBER, Answer, Asked, T, answers_of
from biopsy.serving.decoding import Image, Prepared, named
from biopsy.serving.given import image_of, listed
from biopsy.serving.onnx_file import FEATURES, OUTPUT, Network, exported_file, load_network
from biopsy.serving.revision import find_model
from biopsy.serving.similar import Similar, read_similar
from biopsy.serving.training_images import learnt_from, pixel_key, unpacked

if TYPE_CHECKING:
    import pandas as pd


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
            raise UnsuitableModelError(
                f"{path} needs more than images ({inputs}), which image files do not hold. Train a model with "
                "model.extra_inputs: []."
            )
        self.network = network
        self.learnt = learnt_from(self.card, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path and the hash: another process of this machine loads the same model again."""
        return _unpickled, (self.path.resolve(), self.sha256)

    def predict(self, images: "Iterable[Image] | pd.DataFrame") -> "pd.DataFrame":
        """Predict images.

        Parameters
        ----------
        images
            Paths, bytes of image files, or uint8 arrays (height, width, 3), RGB; or a table with a column `path`.

        Returns
        -------
        DataFrame
            A row an image, in order: `image` (its path, or its number from 0), `predicted` (a class), `p_<class>` (0 to
            1, rows sum to 1), `error` (empty, or why the image has no prediction), `in_training` (whether it has the
            pixels of a training or validation image; None: not known), `unlike_training` (in what it lies far outside
            the training images, such as 'density red'; None: not known).

        Raises
        ------
        DataError
            `images` is one image, a table without a column `path`, or nothing that holds images.
        """
        with extra("predict"):
            import pandas as pd  # a second, which the command and the server need not spend

        return pd.DataFrame(self.rows(images), columns=self.columns)

    @property
    def knows_training(self) -> bool:
        """Whether it can tell that an image looks unlike its training images."""
        return bool(self.card.training or self.similar)

    @property
    def columns(self) -> list[str]:
        """The columns of `predict`."""
        shares = (f"p_{name}" for name in self.card.classes)
        return ["image", "predicted", *shares, "error", "in_training", "unlike_training"]

    def rows(self, images: "Iterable[Image] | pd.DataFrame") -> Iterator[dict[str, Any]]:
        """Yield the rows of `predict` one by one; few images are in memory at a time."""
        called = (
            (
                (str(image), "") if isinstance(image, str | Path) and image else (str(number), f"image {number}"),
                image_of(image),
            )
            for number, image in enumerate(listed(images))
        )
        for (name, words), given in self.answers(called):
            yield self.row(name, replace(given, error=named(given.error, words)))

    def answers(self, images: Asked[T], looked: bool | None = None) -> Iterator[tuple[T, Answer]]:
        """Answer images one by one, in order: `answers_of` this one model."""
        for about, (answer,) in answers_of([self], images, looked):
            yield about, answer

    @property
    def sha256(self) -> str:
        """The hash of what decides the answers: an .onnx file's own seal, or of the card, which names the network's."""
        return self.facts.get("biopsy_sha256") or hashlib.sha256(self.card.model_dump_json().encode()).hexdigest()

    @property
    def batch(self) -> int:
        """How many images the network sees at once."""
        return images_at_once(self.card.preparation.views)

    def answer(self, images: Sequence[Prepared | BiopsyError]) -> Iterator[Answer]:
        """Answer prepared images in order, as many in one run of the network as it takes; an error has no answer.

        Those that were looked at are compared with the training images.
        """
        good = [image for image in images if isinstance(image, Prepared)]
        compared = self.similar is not None and all(image.look is not None for image in good)
        found = list[tuple[Any, Any]]()
        for start in range(0, len(good), self.batch):
            views = np.stack([image.views for image in good[start : start + self.batch]])
            if self.similar and compared:
                probabilities, features = self.ask(views, OUTPUT, FEATURES)
                found += zip(probabilities, self.similar.distances(features), strict=True)
            else:
                found += zip(self.probabilities(views), [None] * len(views), strict=True)
        answers = iter(found)
        for image in images:
            if isinstance(image, Prepared):
                learnt = None if self.learnt is None else pixel_key(image.pixels_sha256) in self.learnt
                probabilities, distances = next(answers)
                unlike = self._unlike(image.look, distances)
                yield Answer(probabilities, "", learnt, unlike, image.look, distances)
            else:
                yield Answer(np.empty(0), str(image))

    def _unlike(self, look: dict[str, float] | None, distances: NDArray[np.float64] | None) -> tuple[str, ...] | None:
        """Name the numbers in which an image lies far outside the training images; None: not known."""
        if look is None or not self.knows_training:
            return None
        far = self.similar is not None and distances is not None and self.similar.far(distances)
        return (*(self.card.training.unlike(look) if self.card.training else ()), *(["features"] if far else ()))

    def probabilities(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return probabilities (n, classes) of images (n, views, size, size, 3) as `prepare` makes them."""
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
        unlike = None if given.unlike is None else " ".join(given.unlike)
        told = [name, predicted, *values, named(given.error, name), given.learnt, unlike]
        return dict(zip(self.columns, told, strict=True))


def load(path: str | Path) -> Model:
    """Load a trained model: `load("models/binary-case").predict(["slide.png"])`. Research use only.

    Parameters
    ----------
    path
        A model's folder, or the .onnx file that `biopsy export` made of it, which needs neither TensorFlow nor Keras.
        Without Keras a folder stands for its exported file, in it or in exports/.
        `repository@revision:path`, such as '.@main:models/binary-case', fetches either with DVC.

    Raises
    ------
    SourceError
        Files missing, edited or unsafe; or a model that needs more than images; or `path` is no path.
    MachineError
        A package is not installed.
    """
    if not isinstance(path, str | Path):
        raise SourceError(f"load takes the path of a model, and was given {type(path).__name__}.")
    try:
        return Model(find_model(path))
    except OSError as error:  # a folder that may not be read, a name too long
        raise SourceError(f"{str(path)[:200]} cannot be read: {error.strerror or error}.") from None


def _unpickled(path: Path, sha256: str) -> Model:
    model = Model(path)
    if model.sha256 != sha256:
        raise SourceError(f"{path} has changed since the model was pickled. Load it again and pickle that.")
    return model


def describe(card: Card) -> str:
    """Say in one line what predicted, and for what it may be used."""
    origin = "trained on a synthetic sample; " if card.synthetic else ""
    if card.members:
        origin += (
            f"the mean of {len(card.members)} models, which has no figures of its own on unseen patients (those of a "
            "cross-validation are of each model alone); "
        )
    return f"{card.task}, protocol {card.protocol}: {', '.join(card.classes)}; {origin}{NOTICE} {card.terms}".strip()
