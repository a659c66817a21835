"""Encoders of a hub: fetched once, known by their hash, and their terms told."""

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from biopsy.core.encoders import ENCODERS, IMAGENET, terms_of
from biopsy.core.errors import SourceError
from biopsy.core.sections.model import Encoder, Model
from biopsy.experiments.listing import list_kinds
from biopsy.sources.web.hub import fetch_weights

CONTENT = b"an encoder" * 100
ABOUT = {"backbone": "onnx", "trainable": "none"}
FILE = "hf://lab/encoder/onnx/model.onnx"


class Hub(BaseHTTPRequestHandler):
    """A stand-in: it sends whoever has a token on to where the file lies, as the real one does."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        token = self.headers.get("Authorization")
        self.seen.append((self.path, token))
        if self.path == "/store/1":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)
        elif token == "Bearer mine" and self.path == "/lab/encoder/resolve/main/onnx/model.onnx":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/store/1")
            self.end_headers()
        else:
            self.send_error(401 if token is None else 404)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}/")
        monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield Hub
        server.shutdown()


def model(**change: Any) -> Model:
    return Model(**{**ABOUT, "weights": FILE, "weights_sha256": sha256(CONTENT).hexdigest(), **change})


def test_a_file_is_fetched_once_and_the_token_is_told_to_the_hub_alone(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "mine")
    fetch_weights(model())
    found = model().weights_file
    assert found is not None
    assert found.name == "model.onnx"
    assert found.read_bytes() == CONTENT
    assert hub.seen == [("/lab/encoder/resolve/main/onnx/model.onnx", "Bearer mine"), ("/store/1", None)]
    fetch_weights(model())
    fetch_weights(model(weights="/data/own.onnx", weights_sha256=None))
    assert len(hub.seen) == 2


def test_what_the_hub_does_not_give_or_gives_otherwise_is_one_sentence_and_leaves_no_file(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"answered 401 .*accept them at http://127.*/lab/encoder and set HF_TOKEN"):
        fetch_weights(model())
    monkeypatch.setenv("HF_TOKEN", "mine")
    with pytest.raises(SourceError, match=r"answered 404"):
        fetch_weights(model(weights="hf://lab/encoder/no.onnx"))
    other = model(weights_sha256="0" * 64)
    with pytest.raises(SourceError, match=r"has the SHA-256 \w+, not the expected 000"):
        fetch_weights(other)
    assert other.weights_file is not None
    assert not other.weights_file.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_sha256": None}, "Set model.weights_sha256"),
        ({"weights": "hf://model.onnx"}, "hf://organisation/repository/file.onnx"),
        ({"encoder": {"name": "virchow3"}}, "Did you mean 'virchow"),
        ({"encoder": {"name": "openmidnight"}}, "Set model.encoder.mean and model.encoder.std"),
        ({"backbone": "cnn", "weights": "none", "weights_sha256": None, "encoder": {"name": "uni"}}, "Set it to onnx"),
    ],
)
def test_parameters_that_leave_the_file_or_its_terms_open_are_rejected(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        model(**change)


def test_an_encoder_that_is_named_brings_its_normalisation_and_its_terms() -> None:
    assert Encoder().normalisation == IMAGENET
    assert Encoder(name="midnight-12k").normalisation == ((0.5,) * 3, (0.5,) * 3)
    assert Encoder(name="midnight-12k", std=[1.0, 1.0, 1.0]).normalisation == ((0.5,) * 3, (1.0,) * 3)
    assert "may not be passed on" in terms_of("uni2-h")
    assert "allows passing on" in terms_of("midnight-12k")
    assert terms_of(None) == ""
    lines = list(list_kinds("encoders"))
    assert len(lines) == 1 + len(ENCODERS)
    assert any(line.split()[0] == "virchow2" and "trained heads stay here (CC BY-NC-ND 4.0)" in line for line in lines)
