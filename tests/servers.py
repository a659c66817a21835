"""Servers on the loopback, for as long as a block lasts: OpenSSH, S3 (moto's), Google Cloud Storage (ours), HTTP."""

import base64
import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(command: list[str], port: int, log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; wait until it listens."""
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield server
    finally:
        server.kill()
        server.wait()


def s3_client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )


def s3_keys(endpoint: str) -> set[str]:
    """Every object of `my-bucket`."""
    pages = s3_client(endpoint).get_paginator("list_objects_v2").paginate(Bucket="my-bucket")
    return {entry["Key"] for page in pages for entry in page["Contents"]}


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Serve S3 with one bucket, `my-bucket`; yield the endpoint."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process(command, port, folder / "s3.log"):
        endpoint = f"http://127.0.0.1:{port}"
        s3_client(endpoint).create_bucket(Bucket="my-bucket")
        yield endpoint


class GoogleStore:
    """What gcsfs reads of Google Cloud Storage: lists of objects, two on a page, an object, and its content.

    `objects` by name lie in the bucket `my-bucket`; `refused` is the status of every answer, if any.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused = 0

    def app(self) -> Any:
        from flask import Flask, abort, request

        app = Flask("store")

        def about(name: str) -> dict[str, str]:
            content = self.objects.get(name)
            if content is None:
                abort(404)
            digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
            return {"name": name, "bucket": "my-bucket", "size": str(len(content)), "md5Hash": digest}

        @app.before_request
        def check() -> Any:
            if self.refused:
                return {"error": {"code": self.refused, "message": "Anonymous caller has no access."}}, self.refused
            return None

        @app.get("/storage/v1/b/my-bucket/o")
        def names() -> Any:
            start = int(request.args.get("pageToken", 0))
            found = sorted(name for name in self.objects if name.startswith(request.args.get("prefix", "")))
            more = {"nextPageToken": str(start + 2)} if len(found) > start + 2 else {}
            return {"kind": "storage#objects", "items": [about(name) for name in found[start : start + 2]], **more}

        @app.get("/storage/v1/b/my-bucket/o/<path:name>")
        def one(name: str) -> Any:
            return about(name)

        @app.get("/download/storage/v1/b/my-bucket/o/<path:name>")
        def content(name: str) -> Any:
            return self.objects[name], {"X-Goog-Hash": f"md5={about(name)['md5Hash']}"}

        return app


@contextmanager
def google_server() -> Iterator[tuple[str, GoogleStore]]:
    """Serve Google Cloud Storage; yield the endpoint, and what lies there."""
    from werkzeug.serving import make_server

    store = GoogleStore()
    server = make_server("127.0.0.1", 0, store.app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", store
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def ssh_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run an OpenSSH server with a host key and a user key of its own; yield its port and the private key."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no sshd on this machine (Debian: apt-get install openssh-server)")
    folder.mkdir(parents=True, mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    (folder / "config").write_text(
        f'Port {port}\nListenAddress 127.0.0.1\nHostKey "{folder}/host"\nPidFile none\nStrictModes no\n'
        f'AuthorizedKeysFile "{folder}/authorized"\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\n'
        f"AllowUsers {getpass.getuser()}\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)  # sshd's empty folder, which a service would make
    with process([program, "-D", "-e", "-f", str(folder / "config")], port, folder / "log"):
        yield port, folder / "user"


@contextmanager
def http_server(folder: Path, served: Path) -> Iterator[str]:
    """Serve a folder for reading."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", str(served), str(port)]
    with process(command, port, folder / "http.log"):
        yield f"http://127.0.0.1:{port}"
