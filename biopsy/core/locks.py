"""One process at a time writes what a stage writes, also where the `dvc` that started the other has died.

DVC's own lock goes with DVC. A stage that outlives it would write on beside the next one, so each stage holds a lock of
its own, which the operating system takes back when the process ends, however it ends.
"""

import errno
import fcntl
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biopsy.core.errors import MachineError, naming, warn

LOCKS = Path("data/.resume/locks")
PATIENCE = 60.0  # seconds that an orphan needs to notice that its parent is gone, and to tidy up on a busy disk
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system that knows none: go on as before
SILENCE = 2.0  # seconds until the user is told what the stage waits for
WATCH = 0.5  # seconds between two looks at the parent

_held: set[str] = set()


@contextmanager
def stage_lock(name: str, folder: Path = LOCKS, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of one stage.

    Parameters
    ----------
    name
        The stage and its arguments: 'train-binary-case'.
    folder
        Where the lock files lie. They are never removed; what counts is who holds them.
    patience
        Seconds to wait for another process.

    Raises
    ------
    MachineError
        Another process still holds it; names its id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / re.sub(r"[^\w.-]+", "-", name)
    with path.open("a+") as stream:
        if not acquire(stream.fileno(), min(patience, SILENCE)):
            stream.seek(0)
            owner = stream.read().strip() or "unknown"
            warn(f"{name}: waiting for process {owner}, left by an earlier `dvc`, to end.")
            if not acquire(stream.fileno(), patience):
                raise MachineError(
                    f"{name} is still being run by process {owner}, which an earlier `dvc` may have left. "
                    f"Wait for it to end, or stop it (kill {owner}), then run `dvc repro` again."
                )
        with naming(path):
            stream.truncate(0)
            os.write(stream.fileno(), f"{os.getpid()}\n".encode())  # unbuffered: a full disk is told once, here
        _held.add(name)
        try:
            yield
        finally:
            _held.discard(name)


def holds_lock() -> bool:
    """Say whether this process is the only writer of its stage's outputs, so that leftovers may be removed."""
    return bool(_held)


def stop_with_parent(parent: int | None = None) -> None:
    """End this process (SIGTERM) when `parent`, or the `dvc` that started it, dies; a thread checks."""
    if parent or "DVC_STAGE" in os.environ:
        watched = parent or os.getppid()
        threading.Thread(target=_watch, args=(watched,), name="watch the parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH)
    for _ in range(5):  # an exception that interrupts a destructor is lost: ask again
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    os._exit(1)


def acquire(descriptor: int, patience: float) -> bool:
    """Lock an open file for this process, within some seconds; False: another process holds it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                return True
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
