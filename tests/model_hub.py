"""A stand-in for the Hugging Face hub: repositories of one user, and commits of small files."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Hub(BaseHTTPRequestHandler):
    """It knows one token, `mine`, which may write to `me/...`; `me/broken` fails."""

    address: str
    asked: list[str]
    repositories: dict[str, dict[str, bytes]]

    def do_HEAD(self) -> None:
        self._file()

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self._file()
        else:
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
            return self._send(200, {"url": f"{self.address}/me/{about['name']}"})
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
        return self._send(200, {"commitUrl": f"{self.address}/{name}/commit/1", "commitOid": "1"})

    def _file(self) -> None:
        """Send a file of a repository, `/user/name/resolve/main/file`, or what of it tells that it has changed."""
        user, name, _, _, file = self.path.removeprefix("/").split("/", 4)
        content = self.repositories.get(f"{user}/{name}", {}).get(file)
        allowed = self.headers["Authorization"] == "Bearer mine"
        if not allowed or content is None:
            self._send(404 if allowed else 401, {"error": "no"}, "EntryNotFound" if allowed else "GatedRepo")
            return
        self.send_response(200)
        for key, value in (("ETag", f'"{sha256(content).hexdigest()}"'), ("X-Repo-Commit", "1" * 40)):
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _send(self, status: int, about: dict[str, Any], code: str = "") -> None:
        content = json.dumps(about).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", about.get("error", ""))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, token: str | None = "mine") -> Iterator[type[Hub]]:
    """Run it, and let the environment name it and the token."""
    Hub.asked, Hub.repositories = [], {"me/broken": {}}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        Hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("HF_ENDPOINT", Hub.address)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        yield Hub
        server.shutdown()
