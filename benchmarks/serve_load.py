"""Claim: `biopsy serve` answers 64 clients at once without an error and in constant memory.

    python benchmarks/serve_load.py exports/binary-case.onnx models/binary-case data/raw/images
    python benchmarks/serve_load.py exports/binary-case.onnx --fuzz 1000     damaged images (tests/damaged.py)

Each client sends one image a request over a connection that it keeps, on the loopback, and waits for the answer; after
429 it comes again. Beside it, in turns: FastAPI and Keras in 15 lines, one image a call, which checks nothing, bounds
nothing and compares no image with training; it gets a third of the requests. Clients and servers share the processor.
Rates are medians over the rounds, the ratio is that of rounds beside each other. Memory is that of the server and its
processes, after a tenth of the requests and at the end.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil

from measure import ROOT, Row, options, parse, ratio, tell

CLIENTS, PATIENCE = 64, 120  # seconds for one answer: more is a hang


@contextmanager
def running(command: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server, wait until it says its port, stop it at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stderr
            for line in server.stderr:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    yield int(found[1]), psutil.Process(server.pid)
                    return
            raise SystemExit("the server did not start")
        finally:
            server.terminate()


def memory_mb(process: psutil.Process) -> float:
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20


def processor_seconds(process: psutil.Process) -> float:
    times = [p.cpu_times() for p in [process, *process.children(recursive=True)]]
    return sum(t.user + t.system for t in times)


def as_request(path: str, content: bytes) -> bytes:
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(port: int, requests: Iterator[bytes], told: Counter[int], seconds: list[float]) -> None:
    """Be one client until no request is left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        status = 429
        begun = time.perf_counter()
        while status == 429:
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            status = int(head.split()[1])
            told[status] += 1
            length = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            if status == 429:
                await asyncio.sleep(1)
        seconds.append(time.perf_counter() - begun)
    writer.close()


@dataclass
class Figures:
    """What several rounds of requests to one server come to."""

    name: str
    told: Counter[int] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    processor: float = 0.0

    @property
    def rate(self) -> float:
        """Images a second, of the round in the middle."""
        return float(np.median(self.rates))

    def measure(self, port: int, process: psutil.Process, requests: Sequence[bytes]) -> None:
        """Send requests, and add what comes of them."""

        async def all_clients() -> None:
            waiting = iter(requests)
            clients = min(CLIENTS, len(requests))
            await asyncio.gather(*(ask(port, waiting, self.told, self.waited) for _ in range(clients)))

        begun, used = time.perf_counter(), processor_seconds(process)
        asyncio.run(all_clients())
        self.rates.append(len(requests) / (time.perf_counter() - begun))
        self.processor += processor_seconds(process) - used

    def report(self) -> None:
        """Print them."""
        p50, p95, p99 = 1000 * np.percentile(self.waited, (50, 95, 99))
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.told.items()))
        spent = 1000 * self.processor / len(self.waited)
        print(
            f"{self.name:22} {self.rate:7.1f} images/s, {spent:.1f} ms of processor each; "
            f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms; {statuses}",
            flush=True,
        )


def serve_plainly(folder: Path) -> None:
    """FastAPI and Keras, as one writes it in a quarter of an hour."""
    import cv2
    import uvicorn
    from fastapi import FastAPI, UploadFile

    from biopsy.networks.model_file import load_model
    from biopsy.serving.server.run import _listen

    model, card = load_model(folder)
    size, app = card.preparation.size, FastAPI()

    @app.post("/predict")
    def predict(images: UploadFile) -> list[float]:
        image = cv2.imdecode(np.frombuffer(images.file.read(), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        return model.predict_on_batch(cv2.resize(image, (size, size))[None].astype(np.float32))[0].tolist()

    with _listen("127.0.0.1", 0) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", type=Path, help="an .onnx file")
    parser.add_argument("folder", type=Path, nargs="?", help="the same model of Keras, of one square an image")
    parser.add_argument("images", type=Path, nargs="?", help="a folder")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--fuzz", type=int, metavar="N", help="send N damaged images instead")
    parser.add_argument("--plain", action="store_true", help="be the plain server")
    asked = parse(parser, requests=1000)
    if asked.plain:
        return serve_plainly(asked.model)
    if asked.fuzz:
        sys.path.insert(0, str(ROOT / "tests"))
        from damaged import damaged

        contents = list(damaged(asked.fuzz))
    else:
        contents = [path.read_bytes() for path in sorted(asked.images.rglob("*.png"))[:200]]
        contents = list(islice(cycle(contents), asked.requests))
    requests = [as_request("/v1/predict", content) for content in contents]
    tenth = max(1, len(requests) // 10)
    rounds = [requests[start : start + tenth] for start in range(0, len(requests), tenth)]
    ours, plain = Figures("biopsy serve"), Figures("plain FastAPI + Keras")
    with ExitStack() as opened:
        command = [sys.executable, "-m", "biopsy.cli", "serve", "--model", str(asked.model), "--port", "0"]
        port, process = opened.enter_context(running(command))
        if not asked.fuzz:
            other = opened.enter_context(running([sys.executable, __file__, str(asked.folder), "--plain"]))
            few = [as_request("/predict", content) for content in contents[: max(CLIENTS, tenth // 3)]]
            Figures("").measure(*other, few)
        ours.measure(port, process, rounds[0])
        ours, first, warm = Figures(ours.name), ours, memory_mb(process)
        for some in rounds[1:]:
            ours.measure(port, process, some)
            if not asked.fuzz:
                plain.measure(*other, few)
        grown = memory_mb(process) / warm - 1
    ours.report()
    print(f"memory after {tenth:,} requests {warm:.0f} MB, after {len(requests):,} {100 * grown:+.1f} %")
    if not asked.fuzz:
        plain.report()
        rate, peer = f"{CLIENTS} clients", "FastAPI, Keras"
        times = ratio(ours.rates, plain.rates)
        tell(Row(rate, ours.rate, "/s", peer, plain.rate, times, ">=1", warm * (1 + grown)))
        tell(Row("memory growth, %", 100 * grown, "", goal="<=5"))
    failed = sum(count for status, count in (first.told + ours.told).items() if status >= 500)
    raise SystemExit(1 if failed or grown >= 0.05 else 0)


if __name__ == "__main__":
    main()
