"""What a server has done, as Prometheus reads it: `GET /metrics`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from fastapi import Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

KIND = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # an explanation costs some 140 predictions


class Meter:
    """Counts of one server, beside the memory and the processor time of its process."""

    def __init__(self, held: Callable[[], int]) -> None:
        """Start at 0; `held` says how many requests are in the queue."""
        self._all = CollectorRegistry()
        self._requests = Counter(
            "biopsy_requests", "Requests that were answered", ["path", "status"], registry=self._all
        )
        self._seconds = Histogram(
            "biopsy_request_seconds", "From a request to its answer", ["path"], buckets=SECONDS, registry=self._all
        )
        self._images = Counter("biopsy_images", "Images by result", ["path", "result"], registry=self._all)
        Gauge("biopsy_queue_requests", "Requests that are worked on or wait", registry=self._all).set_function(held)
        ProcessCollector(registry=self._all)

    @contextmanager
    def request(self, request: Request) -> Iterator[Callable[[int], None]]:
        """Time a request; the caller hands in the status. One that fails without a status is a 500."""
        start, status = perf_counter(), [500]
        try:
            yield status.append
        finally:
            path = getattr(request.scope.get("route"), "path", "other")  # never a client's own words
            self._requests.labels(path, str(status[-1])).inc()
            self._seconds.labels(path).observe(perf_counter() - start)

    def images(self, path: str, errors: list[bool]) -> None:
        """Count a request's images; each says whether it has an error."""
        for result, count in (("error", sum(errors)), ("answer", len(errors) - sum(errors))):
            self._images.labels(path, result).inc(count)

    async def answer(self) -> Response:
        """Write all figures down."""
        return Response(generate_latest(self._all), media_type=KIND)
