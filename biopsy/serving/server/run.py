"""`biopsy serve`: load the models, open the port, answer until Ctrl-C."""

import gc
import ipaddress
import json
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from biopsy.core.errors import MachineError, ParamsError, SourceError, some
from biopsy.core.extras import extra
from biopsy.serving.finding import find_models, short_name

if TYPE_CHECKING:
    from biopsy.serving.figures import FiguresOf

LOCAL = ("localhost", "127.0.0.1", "::1")
BACKLOG = 100  # connections that wait to be taken; all of them are taken at once


def serve(
    paths: Sequence[Path], host: str, port: int, token: str | None, figures_of: "FiguresOf | None" = None
) -> None:
    """Serve models; returns when it is stopped, and what was accepted is answered.

    Parameters
    ----------
    paths
        Model folders or .onnx files; none: those of `find_models`.
    host
        The address to listen on. Other machines can reach every one but the loopback's, which therefore needs a token.
    port
        0 takes a free one.
    token
        What clients must send; None: nothing.
    figures_of
        Finds the test figures of a model's folder; an .onnx file has its own.

    Raises
    ------
    ParamsError, SourceError, MachineError
        An address other than the loopback's without a token, no model or two of one name, an invalid or taken port.
    """
    loopback = is_loopback(host)
    if not loopback and not token:
        raise ParamsError(
            f"--host {host} can be reached from other machines, so it needs a token. Set BIOPSY_TOKEN or --token."
        )
    if not 0 <= port <= 65535:
        raise ParamsError(f"--port must be 0 to 65535. Got {port}.")
    paths = paths or find_models()
    if not paths:
        raise SourceError("models/ and exports/ have no model. Name one with --model, or make one with `dvc repro`.")
    names = [short_name(path) for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ParamsError(f"--model: two models are called {some(sorted(twice))}. Rename one of the files.")
    with _listen(host, port) as listening, ExitStack() as opened:  # before the models load, which takes longer
        from biopsy.serving.decoding import Decoder
        from biopsy.serving.figures import figures_of_test
        from biopsy.serving.model import Model, describe

        with extra("serve"):
            import uvicorn

            from biopsy.serving.server.api import make_app
            from biopsy.serving.server.connections import Connection, allow_files

        models = {name: Model(path) for name, path in zip(names, paths, strict=True)}
        for name, model in models.items():
            model.facts["figures"] = json.dumps(figures_of_test(model, figures_of))  # where `about` looks for them
            print(f"{name}: {describe(model.card)}", file=sys.stderr)
        decoder = opened.enter_context(Decoder())
        app = make_app(models, token, LOCAL if loopback and not token else (), decoder=decoder)
        config = uvicorn.Config(
            app, http=Connection, ws="none", backlog=BACKLOG, log_level="error", server_header=False, access_log=False
        )
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a client is told of its own mistakes
        allow_files()
        gc.collect()
        gc.freeze()  # what is loaded stays, and need not be looked through again and again
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C stops it)", file=sys.stderr, flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has ended in order, and passes the signal on
            print("stopped.", file=sys.stderr)


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, number)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        reason = getattr(error, "strerror", None) or str(error)
        raise MachineError(
            f"the server cannot listen on {host}:{port} ({reason}). Choose another --port or --host."
        ) from None
    return listening
