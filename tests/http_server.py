"""A local HTTP server that serves one file, well or badly, as a list of behaviours tells it."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Serve `content`; each request takes the next behaviour, and `good` when none is left.

    Behaviours: `good`; `half` (announces all, sends half and hangs up); `reset` (the
    same, and the connection breaks);
    `no_range` (200 for every request);
    `shifted` (206 with another range than asked for); `other_total` (206 of a file of another size); `endless`
    (more bytes than announced, in a 206); `unsized` (200 without a length); an int (that status).
    """

    daemon_threads = True

    def __init__(self, content: bytes, *script: str | int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.script, self.etag = content, list(script), '"v1"'
        self.requests: list[dict[str, str]] = []
        self.validators = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/BreaKHis_v1.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, whole = self.server, self.server.content
        server.requests.append(dict(self.headers))
        behaviour = server.script.pop(0) if server.script else "good"
        if isinstance(behaviour, int):
            self.send_error(behaviour)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        stale = self.headers.get("If-Range") not in (None, server.etag)
        start = int(asked[1]) if asked and not stale and behaviour not in ("no_range", "unsized") else 0
        if start >= len(whole):
            self.send_error(416)
            return
        body, total = whole[start:], len(whole)
        if behaviour == "shifted":
            start -= 10
        if behaviour == "other_total":
            total += 100
        if behaviour == "endless":
            body += b"and more"
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if behaviour != "unsized":
            self.send_header("Content-Length", str(len(body)))
        if server.validators:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if behaviour in ("half", "reset") else body)
        if behaviour == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serving(content: bytes, *script: str | int) -> Iterator[Server]:
    with Server(content, *script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
