"""A `dvc exp run --temp` that can be watched while it runs, and ended with all that it started."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def running_dvc(arguments: list[str], progress: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run DVC in a process group of its own; leaving the block ends it, stages and all, and clears up after it.

    Parameters
    ----------
    arguments
        Of `dvc`.
    progress
        The file into which a training writes each epoch's figures.
    log
        The file that takes what DVC prints.
    """
    _drop_torn_locks()
    before, process = _temporary_folders(), None
    try:
        with log.open("w", encoding="utf-8") as stream, _interrupted_after():
            process = subprocess.Popen(
                ["dvc", *arguments],
                env={**os.environ, "BIOPSY_PROGRESS": str(progress)},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):  # DVC misses one while it starts
            if process is not None and process.poll() is None:
                os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=15)
        # Killed by another, too: `dvc exp show` would take what it left for running.
        if process is not None and process.returncode != 0:
            for folder in _temporary_folders() - before:
                shutil.rmtree(folder, ignore_errors=True)


def _drop_torn_locks() -> None:
    """Remove DVC's tables of locks that a killed process left torn: with one of them DVC refuses to run."""
    for table in (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock")):
        for _ in range(2):  # another process may be writing it
            try:
                json.loads(table.read_bytes())
            except FileNotFoundError:
                break
            except ValueError:
                time.sleep(0.5)
            else:
                break
        else:
            table.unlink(missing_ok=True)


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: a process that it kept from being known would run on unseen."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _temporary_folders() -> set[Path]:
    """Where `dvc exp run --temp` works."""
    return set(Path(".dvc/tmp/exps/standalone").glob("tmp*"))


def follow(process: subprocess.Popen[bytes], progress: Path) -> Iterator[dict[str, float]]:
    """Yield each epoch's figures as the training writes them, until its process ends."""
    seen, running = 0, True
    while running:
        running = process.poll() is None
        lines = progress.read_text(encoding="utf-8").splitlines(keepends=True) if progress.is_file() else []
        for line in lines[seen:]:
            if line.endswith("\n"):
                seen += 1
                yield json.loads(line)
        time.sleep(0.1)
