"""What strangers send is decoded in processes of their own: a limit of memory and time holds there, not here."""

import multiprocessing
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import NO_MEMORY, BiopsyError, DataError
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.looks.measure import look_at
from biopsy.images.preparation.record import Preparation
from biopsy.images.prepare import prepare, read_pixels

Image = str | Path | bytes | NDArray[np.uint8]
PROCESSES = min(4, os.cpu_count() or 1)
MEMORY = 2 * 2**30  # bytes beside what a process has when it starts; 50 million pixels with alpha need 1.2 GiB
SECONDS = 30.0  # for one image
UNNAMED = "the image"  # what errors call the bytes of one
ENDED = f"{UNNAMED} cannot be used: decoding it took too long, or more memory than is allowed"


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network sees it, (views, size, size, 3), the hash of its own pixels, and how it looks."""

    views: NDArray[np.uint8]
    pixels_sha256: str
    look: dict[str, float] | None = None


def prepare_image(source: Image, preparation: Preparation, hashed: bool = True, looked: bool = False) -> Prepared:
    """Decode an image once, for the network and for the question whether the model has learnt from it.

    Parameters
    ----------
    source
        As for `Model.predict`.
    preparation
        Of the model's card.
    hashed
        Whether the hash is needed; else it is empty.
    looked
        Whether the image is also measured, to compare it with training images.

    Raises
    ------
    BiopsyError
        The image cannot be used, as in `prepare`.
    """
    pixels = read_pixels(Path(source) if isinstance(source, str) else source, preparation)
    views = prepare(pixels, preparation)
    look = {**look_at(views), "width": pixels.shape[1], "height": pixels.shape[0]} if looked else None
    return Prepared(views, hash_pixels(pixels) if hashed else "", look)


class Decoder:
    """A few processes that decode, each with a thread that hands it one image at a time and waits for the answer.

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
        self._processes = [_Process(memory, seconds) for _ in range(processes)]
        self._idle = SimpleQueue[_Process]()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(processes, "decode")
        for _ in range(processes):  # so that the first images need not wait for a process to start
            self.begin(_nothing, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()

    def begin_prepare(self, image: bytes, preparation: Preparation, hashed: bool) -> Future[Any]:
        """Begin to do what `prepare_image` does, and to look at the image."""
        return self.begin(partial(prepare_image, preparation=preparation, hashed=hashed, looked=True), image)

    def read(self, image: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """Do what `read_rgb` does. Raises `BiopsyError`."""
        (found,) = self.finish([self.begin(partial(read_rgb, max_pixels=max_pixels), image)])
        if isinstance(found, BiopsyError):
            raise found
        return np.asarray(found)

    def begin(self, work: Callable[[bytes], Any], image: bytes) -> Future[Any]:
        """Hand an image to the processes; any thread may."""
        return self._threads.submit(self._ask, work, image)

    def finish(self, begun: Iterable[Future[Any]]) -> list[Any]:
        """Wait for images; one that cannot be used is its error."""
        return [each.result() for each in begun]

    def _ask(self, work: Callable[[bytes], Any], image: bytes) -> Any:
        process = self._idle.get()
        try:
            return process.ask(work, image)
        finally:
            self._idle.put(process)


class _Process:
    """One process, which is started when there is an image for it, and again after it has ended."""

    def __init__(self, memory: int, seconds: float) -> None:
        self.memory, self.seconds, self.closed = memory, seconds, False
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, work: Callable[[bytes], Any], image: bytes) -> Any:
        """Let it work on an image; where that ends the process, or takes too long, return an error."""
        if self.closed:
            return DataError(ENDED)
        try:
            connection = self._connection or self._start()
            try:
                connection.send((work, image))
            except OSError:  # it has ended since the last image, which is not this one's fault
                self._end()
                connection = self._start()
                connection.send((work, image))
            if connection.poll(self.seconds):
                return connection.recv()
        except (OSError, EOFError):
            pass
        self._end()
        return DataError(ENDED)

    def close(self) -> None:
        """End it for good; any thread may."""
        self.closed = True
        if self._process:
            self._process.kill()

    def _start(self) -> Connection:
        spawning = multiprocessing.get_context("spawn")  # not a copy of a process that has threads
        connection, far = spawning.Pipe()
        self._process = spawning.Process(target=_work, args=(far, self.memory), daemon=True)
        self._process.start()
        far.close()
        self._connection = connection
        return connection

    def _end(self) -> None:
        if self._connection:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._connection = None


def _nothing(_: bytes) -> None:
    """Do nothing."""


def _work(connection: Connection, memory: int) -> None:
    """Be a process: work on one image after the other, until the server has gone. Ctrl-C is for the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)  # there are as many processes as processors
    _limit(memory)
    try:
        while True:
            connection.send(told(*connection.recv()))
    except (EOFError, OSError):
        return


def _limit(memory: int) -> None:
    """Let this process take so many bytes more, or what a limit of the machine's (ulimit -v) leaves it."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # no Linux
        return
    most = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def told(work: Callable[[bytes], Any], image: bytes) -> Any:
    """Do the work; return an error as a `DataError`, since other exceptions may not survive pickling."""
    try:
        return work(image)
    except BiopsyError as error:
        return DataError(str(error))
    except MemoryError:
        return DataError(NO_MEMORY)
    except Exception:  # unforeseen: printed for whoever runs the server
        traceback.print_exc()
        return DataError(f"{UNNAMED} cannot be used")


def named(error: str, name: str) -> str:
    """Call an image by its name, where there is one, in the error of its bytes, which have none."""
    return name + error.removeprefix(UNNAMED) if name and error.startswith(f"{UNNAMED} ") else error
