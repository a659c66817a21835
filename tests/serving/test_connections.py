"""The server's connections: silent clients keep nobody out, and nothing keeps the server from its end."""

import asyncio
import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from biopsy.serving.server import connections
from biopsy.serving.server.connections import Connection

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\na"  # one byte of ten
LARGE = 30_000_000  # more than the system keeps for a client


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer what the path says: at once, after a while, much, or when the body is here."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.7)
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    body = bytes(LARGE if scope["path"] == "/large" else 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    """Connections that are open until the server has ended."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def port(held: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server whose patience is short; it ends at once, whatever its clients do."""
    monkeypatch.setattr(connections, "SECONDS", 0.2)
    monkeypatch.setattr(connections, "MOST", 6)
    config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_level="critical", timeout_keep_alive=9)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(5)
        assert not thread.is_alive()


def opened(port: int, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    client.sendall(sent)
    return client


def ended(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            got += part
    return got


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", ASK, ASK + b"GET / HT", BODY])
def test_a_connection_on_which_nothing_happens_is_closed(port: int, sent: bytes) -> None:
    begun = time.monotonic()
    with opened(port, sent) as client:
        assert ended(client).count(b"200 OK") == (ASK in sent)
    assert 0.1 < time.monotonic() - begun < 3


def test_a_body_that_comes_slowly_is_waited_for(port: int) -> None:
    with opened(port, BODY) as client:
        for _ in range(9):
            time.sleep(0.1)
            client.sendall(b"a")
        assert b"200 OK" in client.recv(1000)


def test_a_request_that_is_worked_on_longer_is_answered(port: int) -> None:
    with opened(port, ASK.replace(b"/ ", b"/slow ")) as client:
        assert b"200 OK" in client.recv(1000)


def test_silent_connections_make_room_for_others(
    port: int, held: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SECONDS", 60)
    silent = [held.enter_context(opened(port, b"GET")) for _ in range(20)]
    with opened(port, ASK) as client:
        assert b"200 OK" in client.recv(1000)
    assert len(select.select(silent, [], [], 0)[0]) >= 14  # the server has ended them


def test_the_server_ends_though_a_client_fetches_no_answer_and_another_sends_no_body(
    port: int, held: contextlib.ExitStack
) -> None:
    for sent in (ASK.replace(b"/ ", b"/large "), BODY):
        held.enter_context(opened(port, sent))
    time.sleep(0.1)
