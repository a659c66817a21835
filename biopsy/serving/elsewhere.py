"""Answers from other machines, which see neither the images nor the models of this one: bytes go there."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from biopsy.core.engine import LOCAL, Engine, check_opencv
from biopsy.core.errors import BiopsyError, DataError, ParamsError
from biopsy.images.decode import encoded
from biopsy.serving.answering import Answer, Asked, T, answers_of, in_turn
from biopsy.serving.decoding import Image
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import exported_file

IMAGES = 16  # in a task


@lru_cache(8)
def _loaded(content: bytes) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(content)
        return Model(path)


def answer_there(opencv: str, images: Sequence[Image | BiopsyError], *models: bytes) -> list[tuple[Answer, ...]]:
    """Answer images, none of them a path, with models that are the bytes of .onnx files."""
    check_opencv(opencv)
    asked = ((None, image) for image in images)
    return [answers for _, answers in answers_of([_loaded(content) for content in models], asked)]


def answers_on(engine: Engine, models: Sequence[Model], images: Asked[T]) -> Iterator[tuple[T, tuple[Answer, ...]]]:
    """Answer images with `answers_of` on this machine, or on those of an engine; the answers are the same."""
    return answers_of(models, images) if engine is LOCAL else answers_elsewhere(engine, models, images)


def answers_elsewhere(
    engine: Engine, models: Sequence[Model], images: Asked[T]
) -> Iterator[tuple[T, tuple[Answer, ...]]]:
    """Do what `answers_of` does on the machines of an engine.

    Parameters
    ----------
    engine
        Where images are decoded and answered. Files are read here.
    models
        Of .onnx files.
    images
        As for `answers_of`.

    Raises
    ------
    ParamsError
        A model is a folder: its network needs Keras, and its training images this project.
    """
    check_exported(models)
    shared = [engine.share(model.path.read_bytes()) for model in models]
    pixels = max(model.card.preparation.max_pixels for model in models)

    def chunks() -> Iterator[tuple[list[T], list[Any]]]:
        waiting = iter(images)
        while chunk := list(islice(waiting, IMAGES)):
            abouts, sources = zip(*chunk, strict=True)
            yield list(abouts), list(sources)

    def work(_: object, sources: list[Any]) -> list[tuple[Answer, ...]]:
        sent = [_content(source, pixels) for source in sources]
        given: list[tuple[Answer, ...]] = engine.call(answer_there, cv2.__version__, sent, *shared)
        return given

    with ThreadPoolExecutor(engine.width, "predict") as pool:
        for abouts, answers in in_turn(pool, work, chunks(), engine.width):
            yield from zip(abouts, answers, strict=True)


def check_exported(models: Sequence[Model]) -> None:
    """Raise `ParamsError` where a model is a folder, which another machine could not answer with."""
    if folders := [model.path for model in models if exported_file(model.path) is None]:
        raise ParamsError(
            f"--engine ray takes exported models. Run `biopsy export {folders[0]}`, and name the .onnx file."
        )


def _content(source: Any, max_pixels: int) -> Any:
    """Read what is sent; an error without its class, which may not be rebuilt there."""
    try:
        given = source() if callable(source) else source
        return encoded(given, max_pixels) if isinstance(given, Path) else given
    except BiopsyError as error:
        return DataError(str(error))
