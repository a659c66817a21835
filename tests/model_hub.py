"""A stand-in for the Hugging Face hub: repositories of one user, and commits of small files."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Hub(BaseHTTPRequestHandler):
    """It knows one token, `mine`, which may write to `me/...`; `me/broken` fails."""

    asked: list[str]
    repositories: dict[str, dict[str, bytes]]

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, content: bytes) -> None:
        self.asked.append(self.path)
        if self.headers["Authorization"] != "Bearer mine":
            return self._send(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            about = json.loads(content)
            if about["organization"] != "me":
                return self._send(403, {"error": "You don't have the rights."})
            self.repositories[f"me/{about['name']}"] = {}
            return self._send(200, {"url": f"{self._here()}/me/{about['name']}"})
        if self.path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        return self._of_repository("/".join(self.path.split("/")[3:5]), content)

    def _of_repository(self, name: str, content: bytes) -> None:
        held = self.repositories.get(name)
        if held is None:
            return self._send(404, {"error": "Repository not found"}, "RepoNotFound")
        if self.command == "GET":
            return self._send(200, {"id": name, "siblings": [{"rfilename": file} for file in held]})
        if name == "me/broken":
            return self._send(422, {"error": "out of order"})
        if "/preupload/" in self.path:
            kept = {"uploadMode": "regular", "shouldIgnore": False}
            return self._send(200, {"files": [kept | {"path": f["path"]} for f in json.loads(content)["files"]]})
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                held[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._send(200, {"commitUrl": f"{self._here()}/{name}/commit/1", "commitOid": "1"})

    def _here(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _send(self, status: int, about: dict[str, Any], code: str = "") -> None:
        content = json.dumps(about).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", about.get("error", ""))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, token: str | None = "mine") -> Iterator[type[Hub]]:
    """Run it, and let the environment name it and the token."""
    Hub.asked, Hub.repositories = [], {"me/broken": {}}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        yield Hub
        server.shutdown()
