"""The one queue of the server: bounded, and what waits for the same model is worked on together."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from biopsy.networks.answers import BATCH
from biopsy.serving.server.responses import Images
from biopsy.serving.server.uploads import Limits, read_images

WAIT = 0.05  # seconds that a prepared image waits for others which are on their way


@dataclass(frozen=True)
class Work:
    """What a request's images are for.

    Attributes
    ----------
    run
        From images to what is answered.
    begin
        What can be done with images that wait: it returns their names and futures, which `run` gets when all are
        done. None: nothing.
    group
        Requests of one group may be worked on together: `run` returns a list, an item an image.
    """

    run: Callable[[Any], Any]
    begin: Callable[[Images], Sequence[tuple[str, Future[Any]]]] | None = None
    group: str | None = None


@dataclass(eq=False)
class _Job:
    work: Work
    images: Sequence[Any]
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    turn: Future[None] = field(default_factory=Future)  # runs, or is cancelled: never both
    ready: float = 0.0

    @property
    def waits(self) -> list[Future[Any]]:
        """What has begun with its images."""
        return [begun for _, begun in self.images if isinstance(begun, Future)]


class Queue:
    """Works on one batch after the other, for a network uses all cores by itself; holds a bounded number of requests.

    Attributes
    ----------
    held, held_bytes
        Requests that were taken and are not answered, and what they may bring.
    """

    def __init__(self, limits: Limits) -> None:
        """Start with nothing held."""
        self.limits, self.held, self.held_bytes = limits, 0, 0
        self._worker = ThreadPoolExecutor(1, "predict")
        self._jobs: deque[_Job] = deque()
        self._lock = Lock()

    def check(self, more: int = 0) -> None:
        """Raise 429 where no more requests, or bytes, are taken."""
        if self.held >= self.limits.waiting or (self.held and self.held_bytes + more > self.limits.waiting_bytes):
            raise HTTPException(429, "The queue is full. Try again in a moment.", {"Retry-After": "1"})

    async def answer(self, request: Request, limits: Limits, work: Work) -> Any:
        """Read a request's images and work on them. The place in the queue comes first: it bounds the memory."""
        length = request.headers.get("content-length", "")
        size = min(int(length), limits.request_bytes) if length.isdecimal() else limits.request_bytes
        self.check(size)
        self.held, self.held_bytes = self.held + 1, self.held_bytes + size
        try:
            images = await read_images(request, limits)
            job = _Job(work, work.begin(images) if work.begin else images)
            self._enter(job)
            gone = asyncio.ensure_future(request.receive())
            await asyncio.wait([job.answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and job.turn.cancel():  # what has begun goes on: a thread cannot be stopped
                for begun in job.waits:
                    begun.cancel()
                raise HTTPException(400, "The client has gone.")
            gone.cancel()
            return await job.answer
        finally:
            self.held, self.held_bytes = self.held - 1, self.held_bytes - size

    def _enter(self, job: _Job) -> None:
        """Let a job wait for its turn once all its images are prepared: no other waits for a slow one."""
        waits = list(job.waits)

        def add(done: Future[Any] | None) -> None:
            with self._lock:
                if done:
                    waits.remove(done)
                if waits or job.turn.cancelled():
                    return
                job.ready = time.monotonic()
                self._jobs.append(job)
            self._worker.submit(self._next)

        for begun in job.waits:
            begun.add_done_callback(add)
        if not job.waits:
            add(None)

    def _next(self) -> None:
        """Work on the jobs in front; nothing where another job has taken them along."""
        if not (jobs := self._take()):
            return
        found, error = None, None
        try:
            found = jobs[0].work.run([image for job in jobs for image in job.images])
        except BaseException as raised:
            error = raised
        jobs[0].answer.get_loop().call_soon_threadsafe(_deliver, jobs, found, error)  # all at once: a loop wakes once

    def _take(self) -> Sequence[_Job]:
        """Take the first job and, up to a batch of images, those of its group, which may be a moment away."""
        with self._lock:
            if not self._jobs:
                return []
            first = self._jobs[0]
        while first.work.group is not None and time.monotonic() < first.ready + WAIT and self._coming(first):
            time.sleep(WAIT / 10)
        taken, count = list[_Job](), 0
        with self._lock:
            for job in [first, *(job for job in self._jobs if job is not first and job.work.group == first.work.group)]:
                if job is not first and (first.work.group is None or count + len(job.images) > BATCH):
                    break
                self._jobs.remove(job)
                if job.turn.set_running_or_notify_cancel():
                    taken, count = [*taken, job], count + len(job.images)
        return taken

    def _coming(self, first: _Job) -> bool:
        """Say whether a request is held whose images are not here yet, and the batch has room."""
        with self._lock:
            waiting = sum(len(job.images) for job in self._jobs if job.work.group == first.work.group)
            return waiting < BATCH and self.held > len(self._jobs)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Finish what was accepted when the server stops."""
        yield
        self._worker.shutdown()


def _deliver(jobs: Sequence[_Job], found: Any, error: BaseException | None) -> None:
    """Give each job its own part of what was found."""
    start = 0
    for job in jobs:
        part = found if error or job.work.group is None else found[start : start + len(job.images)]
        start += len(job.images)
        if job.answer.cancelled():  # with the task that waited for it
            continue
        if error:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(part)
