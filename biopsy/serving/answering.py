"""What models say of images: each image is decoded and prepared once for all models that prepare it alike."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError
from biopsy.networks.answers import BATCH
from biopsy.serving.decoding import Image, Prepared, prepare_image
from biopsy.serving.inputs import Found

if TYPE_CHECKING:
    from biopsy.serving.model import Model

Given = Image | Prepared | BiopsyError  # an image, or what came of preparing it
T = TypeVar("T")
R = TypeVar("R")
Asked = Iterable[tuple[T, Given | Callable[[], Given]]]
THREADS = os.cpu_count() or 1
NO_NUMBER = "the model gives no number for this image: its training diverged, or its file is of another kind"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one image.

    Attributes
    ----------
    probabilities : float64 array of shape (classes,)
        Calibrated; empty where there is an error.
    error
        Why there are no probabilities.
    learnt
        Whether the image was one of the model's training or validation images; None: not known.
    unlike
        In what it lies far outside the training images; None: not known.
    look
        What was measured to say so.
    distances : float64 array of shape (n,), or None
        From each training image, where the model has `similar`.
    picture, no_picture
        The file of its explanation, or why it has none; None and empty: not asked for.
    """

    probabilities: NDArray[np.float64]
    error: str = ""
    learnt: bool | None = None
    unlike: tuple[str, ...] | None = None
    look: dict[str, float] | None = None
    distances: NDArray[np.float64] | None = None
    picture: str | None = None
    no_picture: str = ""

    def __post_init__(self) -> None:
        """Turn NaN into an error: a class would be predicted from it all the same."""
        if not np.isfinite(self.probabilities).all():
            object.__setattr__(self, "probabilities", np.empty(0))
            object.__setattr__(self, "error", NO_NUMBER)


Answers = Iterator[tuple[Found, tuple[Answer, ...]]]  # about images that a person named: one of each model


def answers_of(
    models: Sequence["Model"], images: Asked[T], looked: bool | None = None
) -> Iterator[tuple[T, tuple[Answer, ...]]]:
    """Let several models answer images one by one, in order.

    Parameters
    ----------
    models
        At least one.
    images
        Each behind what is handed on with its answers, or a function that reads it when its turn comes.
    looked
        Whether images are looked at and compared with training images; None: where a model knows these.

    Yields
    ------
    (T, tuple of Answer)
        An answer a model.
    """
    work = partial(_begin, models, _alike(models), looked)
    with ThreadPoolExecutor(THREADS, "predict") as pool:
        if all(model.network is None for model in models):  # each image is prepared and answered in one of the threads
            yield from in_turn(pool, work, images, 2 * THREADS)
            return
        size = batch_of(models)
        begun = in_turn(pool, work, images, size)  # the next batch, while the networks work
        while chunk := list(islice(begun, size)):
            columns = zip(*(given for _, given in chunk), strict=True)
            answers = [
                column if model.network is None else model.answer(column)
                for model, column in zip(models, columns, strict=True)
            ]
            for (about, _), *row in zip(chunk, *answers, strict=True):
                yield about, tuple(row)


def batch_of(models: Sequence["Model"]) -> int:
    """Return how many images are answered together, which the last digits of their probabilities depend on."""
    return min((model.batch for model in models if model.network is not None), default=BATCH)


def _alike(models: Sequence["Model"]) -> list[int]:
    """Return for each model the place of the first one that prepares images as it does."""
    preparations = [model.card.preparation for model in models]
    return [preparations.index(preparation) for preparation in preparations]


def _begin(
    models: Sequence["Model"], alike: Sequence[int], looked: bool | None, _: object, image: Given | Callable[[], Given]
) -> tuple[Any, ...]:
    """Prepare an image for each model; of a model that needs no batch return its answer."""
    try:
        source = image() if callable(image) else image
    except BiopsyError as error:
        source = error
    prepared: dict[int, Prepared | BiopsyError] = {}
    for first in dict.fromkeys(alike):
        those = [model for model, place in zip(models, alike, strict=True) if place == first]
        hashed, look = any(m.learnt is not None for m in those), looked
        if look is None:
            look = any(m.knows_training for m in those)
        prepared[first] = _prepared(source, those[0], hashed, look)
    return tuple(
        prepared[place] if model.network is not None else next(model.answer([prepared[place]]))
        for model, place in zip(models, alike, strict=True)
    )


def _prepared(source: Given, model: "Model", hashed: bool, looked: bool) -> Prepared | BiopsyError:
    if isinstance(source, Prepared | BiopsyError):
        return source
    try:
        return prepare_image(source, model.card.preparation, hashed, looked)
    except BiopsyError as error:
        return error


def in_turn(
    pool: ThreadPoolExecutor, work: Callable[[T, Any], R], items: Iterable[tuple[T, Any]], ahead: int
) -> Iterator[tuple[T, R]]:
    """Do some work in threads and yield what comes of it in order; at most `ahead` items wait to be taken."""
    begun = deque[tuple[T, Future[R]]]()
    for about, item in items:
        begun.append((about, pool.submit(work, about, item)))
        if len(begun) > ahead:
            first, done = begun.popleft()
            yield first, done.result()
    for first, done in begun:
        yield first, done.result()
