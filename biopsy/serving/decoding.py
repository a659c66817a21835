"""What strangers send is decoded in processes of their own: a limit of memory and time holds there, not here."""

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import NO_MEMORY, BiopsyError, DataError
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.looks.measure import look_at
from biopsy.images.preparation.record import Preparation
from biopsy.images.prepare import prepare

Image = str | Path | bytes | NDArray[np.uint8]
PROCESSES = min(4, os.cpu_count() or 1)
MEMORY = 2 * 2**30  # bytes beside what a process has when it starts; 50 million pixels with alpha need 1.2 GiB
SECONDS = 30.0  # for one image
ENDED = "the image cannot be used: decoding it took too long, or more memory than is allowed"


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network sees it, (views, size, size, 3), the hash of its own pixels, and how it looks."""

    views: NDArray[np.uint8]
    pixels_sha256: str
    look: dict[str, float] | None = None


def prepare_image(source: Image, preparation: Preparation, hashed: bool = True) -> Prepared:
    """Decode an image once, for the network and for the question whether the model has learnt from it.

    Parameters
    ----------
    source
        As for `Model.predict`.
    preparation
        Of the model's card.
    hashed
        Whether the hash is needed; else it is empty.

    Raises
    ------
    BiopsyError
        The image cannot be used, as in `prepare`.
    """
    name: str | Path = Path(source) if isinstance(source, str | Path) else "the image"
    if isinstance(source, np.ndarray):
        pixels = source
    else:
        pixels = read_rgb(source if isinstance(source, bytes) else Path(source), preparation.max_pixels)
    views = prepare(pixels, preparation, name)
    return Prepared(views, hash_pixels(pixels) if hashed else "")


@dataclass(frozen=True, eq=False)
class Begun:
    """An image that some process works on, or will: see `Decoder.finish`."""

    work: Callable[[bytes], Any]
    image: bytes
    pool: ProcessPoolExecutor
    future: Future[Any]


class Decoder:
    """A few processes that decode. Any thread may begin an image; one thread at a time may wait for some.

    Parameters
    ----------
    processes
        At least 1.
    memory
        Bytes that each may take beside what it starts with; what needs more is an error of its image.
    seconds
        For one image.
    """

    def __init__(self, processes: int = PROCESSES, memory: int = MEMORY, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._make = partial(
            ProcessPoolExecutor, processes, multiprocessing.get_context("spawn"), _limit, initargs=(memory,)
        )
        self._pool = self._make()
        self._lock = Lock()
        self.begin(_nothing, b"")  # so that the first image need not wait for a process to start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _kill(self._pool)

    def begin_prepare(self, image: bytes, preparation: Preparation, hashed: bool) -> Begun:
        """Begin to do what `prepare_image` does, and to look at the image."""
        return self.begin(partial(_look_at_prepared, preparation=preparation, hashed=hashed), image)

    def read(self, image: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """Do what `read_rgb` does. Raises `BiopsyError`."""
        (found,) = self.finish([self.begin(partial(read_rgb, max_pixels=max_pixels), image)])
        if isinstance(found, BiopsyError):
            raise found
        return np.asarray(found)

    def begin(self, work: Callable[[bytes], Any], image: bytes) -> Begun:
        """Hand an image to the processes."""
        with self._lock:
            try:
                return Begun(work, image, self._pool, self._pool.submit(_told, work, image))
            except BrokenProcessPool:
                _kill(self._pool)
                self._pool = self._make()
                return Begun(work, image, self._pool, self._pool.submit(_told, work, image))

    def finish(self, begun: Sequence[Begun]) -> list[Any]:
        """Wait for images; one that cannot be used is its error."""
        found = [self._wait(each) for each in begun]
        # A process that ends takes other images with it: each is tried again by itself.
        for place, each in enumerate(begun):
            if found[place] is None:
                again = self._wait(self.begin(each.work, each.image))
                found[place] = DataError(ENDED) if again is None else again
        return found

    def _wait(self, begun: Begun) -> Any:
        """Return what came of it; None where its process ended, or has to be ended."""
        try:
            return begun.future.result(self.seconds)
        except (TimeoutError, BrokenProcessPool, CancelledError):
            with self._lock:
                if begun.pool is self._pool:  # else it is gone already
                    self._pool = self._make()
            _kill(begun.pool)
            return None
        except Exception as error:  # nobody foresaw it
            traceback.print_exception(error, file=sys.stderr)
            return DataError("the image cannot be used")


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=True, cancel_futures=True)


def _look_at_prepared(image: bytes, preparation: Preparation, hashed: bool) -> Prepared:
    found = prepare_image(image, preparation, hashed)
    return replace(found, look=look_at(found.views))


def _nothing(_: bytes) -> None:
    """Do nothing."""


def _limit(memory: int) -> None:
    """Begin a process: Ctrl-C is for the server, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux
        own = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + memory, own + memory))


def _told(work: Callable[[bytes], Any], image: bytes) -> Any:
    """Work, and return an error as a plain sentence: a class of its own need not survive the way back."""
    try:
        return work(image)
    except BiopsyError as error:
        return DataError(str(error))
    except MemoryError:
        return DataError(NO_MEMORY)
