"""The server's queue: small requests are worked on together, and a process that decodes may end without harm."""

import asyncio
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi import HTTPException, Request

from biopsy.core.errors import DataError
from biopsy.core.sections.data import Resize
from biopsy.images.preparation.record import Preparation
from biopsy.serving import decoding
from biopsy.serving.decoding import ENDED, Decoder, Prepared
from biopsy.serving.server.queue import Queue, Work
from biopsy.serving.server.uploads import Limits

FORM = b'--x\r\nContent-Disposition: form-data; name="images"; filename="%d"\r\n\r\n%d\r\n--x--\r\n'


def request(number: int, length: int | None = None, leaves: asyncio.Event | None = None) -> Request:
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    headers += [] if length is None else [(b"content-length", str(length).encode())]
    parts = iter([{"type": "http.request", "body": FORM % (number, number)}])

    async def receive() -> Any:
        for part in parts:
            return part
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_what_waits_for_one_model_is_worked_on_together_and_each_client_gets_its_own() -> None:
    begin, seen = threading.Event(), []

    def run(images: Any) -> list[str]:
        seen.append([name for name, _ in images])
        return [f"answer {name}" for name, _ in images]

    async def ask() -> list[Any]:
        queue = Queue(Limits())
        queue._worker.submit(begin.wait)
        groups = ["a"] * 40 + ["b"] * 2 + [None]
        asked = [
            asyncio.ensure_future(queue.answer(request(i, 200), Limits(), Work(run, None, g)))
            for i, g in enumerate(groups)
        ]
        while len(queue._jobs) < len(groups) and not any(task.done() for task in asked):
            await asyncio.sleep(0.001)
        begin.set()
        found = await asyncio.gather(*asked)
        assert (queue.held, queue.held_bytes) == (0, 0)
        queue._worker.shutdown()
        return found

    assert asyncio.run(ask()) == [[f"answer {i}"] for i in range(43)]
    assert [len(batch) for batch in seen] == [32, 8, 2, 1]


def test_large_requests_are_rejected_before_many_small_ones_would_be_and_one_is_always_taken() -> None:
    async def ask() -> None:
        limits = Limits(request_bytes=100, waiting=5, waiting_bytes=50)
        queue = Queue(limits)
        begin = threading.Event()
        queue._worker.submit(begin.wait)
        first = asyncio.ensure_future(queue.answer(request(0, 90), limits, Work(list)))
        await asyncio.sleep(0)
        for length in (10, None, 10**9):
            with pytest.raises(HTTPException) as found:
                await queue.answer(request(1, length), limits, Work(list))
            assert (found.value.status_code, found.value.headers) == (429, {"Retry-After": "1"})
        begin.set()
        assert len(await first) == 1
        queue._worker.shutdown()

    asyncio.run(ask())


def test_an_image_that_takes_long_to_decode_holds_up_no_other_request_and_is_given_up_with_its_client() -> None:
    begun: dict[str, Future[Any]] = {}

    def begin(images: Any) -> list[tuple[str, Future[Any]]]:
        begun.update((name, Future()) for name, _ in images)
        return [(name, begun[name]) for name, _ in images]

    async def ask() -> None:
        queue, work = Queue(Limits()), Work(lambda images: [f.result() for _, f in images], begin, "a")
        leaves = [asyncio.Event() for _ in range(3)]
        asked = [queue.answer(request(i, None, event), Limits(), work) for i, event in enumerate(leaves)]
        slow, quick, gone = map(asyncio.ensure_future, asked)
        while len(begun) < 3:
            await asyncio.sleep(0)
        begun["1"].set_result("quick")
        assert await asyncio.wait_for(quick, 20) == ["quick"]
        assert not slow.done()
        begun["0"].set_result("slow")
        assert await asyncio.wait_for(slow, 20) == ["slow"]
        leaves[2].set()
        with pytest.raises(HTTPException, match="has gone"):
            await gone
        assert begun["2"].cancelled()
        assert (queue.held, queue.held_bytes) == (0, 0)
        queue._worker.shutdown()

    asyncio.run(ask())


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(processes=1, memory=200 * 2**20, seconds=20) as made:
        yield made


def test_an_image_that_ends_its_process_or_needs_too_much_memory_is_an_error_and_the_others_are_decoded(
    decoder: Decoder,
) -> None:
    plain = cv2.imencode(".png", np.full((48, 64, 3), 40, np.uint8))[1].tobytes()
    large = cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))[1].tobytes()  # 243 MB as RGB
    preparation = Preparation(max_pixels=10**8, resize=Resize(size=32))

    def prepared(*images: bytes) -> list[Any]:
        return decoder.finish([decoder.begin_prepare(image, preparation, True) for image in images])

    first, second, third = prepared(plain, large, plain)
    assert isinstance(first, Prepared)
    assert first.views.shape == (1, 32, 32, 3)
    assert first.look
    assert isinstance(second, DataError)
    assert "memory" in str(second)
    assert third.pixels_sha256 == first.pixels_sha256
    assert decoder.read(plain, 10_000).shape == (48, 64, 3)
    hanging = decoder.begin(_hang, b"")
    others = [decoder.begin_prepare(plain, preparation, False) for _ in range(3)]
    (process,) = decoder._processes
    process._process.kill()
    assert str(hanging.result(20)) == ENDED
    assert all(isinstance(found, Prepared) for found in decoder.finish(others))
    process._process.kill()  # between two images
    process._process.join()
    assert isinstance(decoder.begin_prepare(plain, preparation, False).result(20), Prepared)
    process.seconds = 0.2
    assert [str(error) for error in decoder.finish([decoder.begin(_hang, b"")])] == [ENDED]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory on Linux alone")
@pytest.mark.parametrize("allowed", [resource.RLIM_INFINITY, 10**15, 10**6])
def test_a_limit_of_the_machine_is_not_raised(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    decoding._limit(10**9)
    ((soft, hard),) = limits
    assert soft == hard
    assert hard == allowed if allowed == 10**6 else 10**9 < hard < 10**14


def _hang(_: bytes) -> None:
    threading.Event().wait()
