"""What every request to the server passes: it is counted, may be rejected, and its answer has strict headers."""

import hmac
from collections.abc import Callable, Collection, Sequence
from functools import partial
from urllib.parse import SplitResult, urlsplit

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from biopsy.serving.server.meter import Meter

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """Middleware.

    Parameters
    ----------
    app
        What answers.
    meter
        Counts requests.
    rejection
        From a request to its rejection; None: it comes in. See `rejecting`.
    """

    def __init__(self, app: ASGIApp, meter: Meter, rejection: Callable[[Request], Response | None]) -> None:
        self.app, self.meter, self.rejection = app, meter, rejection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # what monitors ask with: a GET whose body uvicorn leaves out
            scope = {**scope, "method": "GET"}
        request = Request(scope)
        with self.meter.request(request) as told:

            async def pass_on(message: Message) -> None:
                if message["type"] == "http.response.start":
                    told(message["status"])
                    message["headers"] = [*message["headers"], *RAW_HEADERS]
                await send(message)

            await (self.rejection(request) or self.app)(scope, receive, pass_on)


def rejecting(token: str | None, hosts: Sequence[str], free: Collection[str]) -> Callable[[Request], Response | None]:
    """Make what rejects requests.

    Parameters
    ----------
    token, hosts
        As for `make_app`.
    free
        Paths that need no token.
    """
    return partial(_rejection, token=token, hosts=hosts, free=free)


def _split(address: str) -> SplitResult:
    """Split an address; if it is not a valid one, all parts are empty."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _rejection(request: Request, *, token: str | None, hosts: Sequence[str], free: Collection[str]) -> Response | None:
    """Reject who has no token, calls us by a name that is not ours, or sends from another page; None: come in."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    called = _split(f"//{host}").hostname
    sender = _split(origin).netloc if origin else host
    if hosts and called not in hosts:
        return JSONResponse({"detail": f"This server is not called '{host[:80]}'."}, 403)
    if sender != host:
        return JSONResponse({"detail": "Requests from other pages are not taken."}, 403)
    if token is None or request.scope["path"] in free:  # not `request.url`, which a Host header can change
        return None
    given = request.headers.get("authorization", "").encode("latin-1")
    if hmac.compare_digest(given, f"Bearer {token}".encode()):
        return None
    return JSONResponse({"detail": "A token is needed."}, 401, {"WWW-Authenticate": "Bearer"})
