"""Runs stages and DVC for the tests, each in a fork of a process that has imported what they import.

To import TensorFlow takes ten times as long as to train one epoch of the tests' sample. `python server.py <socket>
<pid>`; it ends with the process of that number, and removes the socket's folder.
"""

import atexit
import gc
import importlib
import io
import json
import os
import resource
import runpy
import shutil
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import psutil

IMPORTED = (
    "cv2", "dvc.cli", "dvc.commands.repro", "dvc.repo", "dvclive", "keras", "matplotlib.pyplot", "onnx", "onnxruntime",
    "pandas", "pandera.pandas", "pydantic", "scipy.stats", "seaborn", "sklearn.linear_model", "sklearn.metrics",
    "sklearn.model_selection", "tensorflow", "tqdm",
)  # fmt: skip
INSTALLED = [path for path in sys.path[1:] if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]


def preload() -> None:
    """Import what stages and DVC do, and nothing of this project: the tests' copies of it differ."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"}
    gc.disable()  # what is imported stays
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # else a tenth of DVC's time
    gc.enable()


def draw_nothing() -> None:
    """Save figures as one pixel, where a test is not about them: a quarter of what `train` and `evaluate` take."""
    import cv2
    import numpy
    from matplotlib.figure import Figure

    pixel = cv2.imencode(".png", numpy.zeros((1, 1, 3), numpy.uint8))[1].tobytes()
    Figure.savefig = lambda self, path, **_: Path(path).write_bytes(pixel)  # type: ignore[method-assign]


def remember_what_was_written() -> None:
    """Let DVC take from memory what it last wrote into dvc.lock: to parse it for each stage is a third of `repro`."""
    from dvc.utils.serialize import _yaml

    parse, dump, kept = _yaml.parse_yaml_for_update, _yaml._dump, dict[str, Any]()

    def dump_and_keep(data: Any, stream: Any) -> None:
        text = io.StringIO()
        dump(data, text)
        kept.clear()
        kept[text.getvalue()] = data
        stream.write(text.getvalue())

    _yaml._dump = dump_and_keep
    _yaml.parse_yaml_for_update = lambda text, path: kept.pop(text, None) or parse(text, path)


def run(asked: dict, files: list[int]) -> int:
    """Be the process that was asked for, until it ends; return its exit status."""
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    for name, limit in asked["limits"].items():
        resource.setrlimit(getattr(resource, name), limit)
    argv, paths = asked["argv"], asked["env"].get("PYTHONPATH", "").split(os.pathsep)
    module = argv[0] == "-m"
    if argv[0].endswith("/dvc"):
        remember_what_was_written()
    elif "BIOPSY_TEST_UNDRAWN" in os.environ:
        draw_nothing()
    sys.argv = argv[1:] if module else argv
    sys.path[:] = [asked["cwd"] if module else str(Path(argv[0]).parent), *paths, *INSTALLED]
    try:
        if module:
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve(client: socket.socket) -> None:
    """Run what one client asks for; die with it."""
    size, files, _, _ = socket.recv_fds(client, 8, 3)
    content = b""
    while len(content) < int.from_bytes(size, "big"):
        content += client.recv(65536)

    def watch() -> None:
        client.recv(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = run(json.loads(content), files)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 120
    client.sendall(bytes([status % 256]))
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    preload()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{sys.argv[1]}.new")
        server.listen(64)
        Path(f"{sys.argv[1]}.new").rename(sys.argv[1])
        server.settimeout(5)
        while psutil.pid_exists(int(sys.argv[2])):
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                client.settimeout(None)
                serve(client)
            client.close()
    shutil.rmtree(Path(sys.argv[1]).parent)


if __name__ == "__main__":
    main()
