"""The server's connections: how many there may be, and how long one may do nothing.

uvicorn waits for ever for the first request of a connection, and for a client to fetch its answer. A thousand such
clients would take all of a process's files; it could then not be reached, nor ended with one Ctrl-C.
"""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST, FILES = 400, 2048
SECONDS = 20.0


def allow_files() -> None:
    """Let this process hold `MOST` connections, as many again that come or go, and its own files."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # below 0: no limit
    wanted = min(FILES, most) if most >= 0 else FILES
    if 0 <= now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Connection(H11Protocol):
    """A connection that is closed where for `SECONDS` no request is worked on, comes whole or is fetched."""

    _seen: Any = None
    _heard = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin. Where there are `MOST`, one that has asked for nothing yet makes room."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
            silent = (c for c in others if c.cycle is None and not c.transport.is_closing())
            next(silent, self).transport.abort()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Count what comes, so that a body that still comes is told from one that has stopped."""
        self._heard += len(data)
        super().data_received(data)

    def shutdown(self) -> None:
        """Finish the request at hand as the server stops, unless it has not arrived yet."""
        super().shutdown()
        if self.cycle and self.cycle.more_body:
            self.transport.close()

    def _wait(self) -> None:
        self._timer = self.loop.call_later(SECONDS, self._look)

    def _look(self) -> None:
        """Close the connection where nothing has changed since the last look; the second time, with what it holds."""
        asked = self.cycle is not None and not self.cycle.response_complete
        works = asked and not self.cycle.more_body and not self.flow.write_paused
        seen, self._seen = self._seen, (self.cycle, self.transport.get_write_buffer_size(), self._heard)
        if not works and (self.cycle is None or seen == self._seen):
            self.transport.abort() if self.transport.is_closing() else self.transport.close()
        self._wait()
