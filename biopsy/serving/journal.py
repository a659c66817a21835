"""A file of the lines that are done, after a head that says what they are about, so that a rerun continues there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from biopsy.core.errors import MachineError, naming, warn
from biopsy.core.files import making
from biopsy.core.locks import acquire

ROUNDED = 1e-3  # how far from 1 the probabilities of a row may add up


class Journal:
    """The lines of one piece of work, which one process at a time adds to.

    Attributes
    ----------
    path
        The file.
    done
        How many lines an earlier call left, whole batches only: otherwise the rest would be batched differently, which
        changes the last digits of its probabilities.
    batch
        Lines in a batch.
    """

    def __init__(
        self, path: Path, head: bytes, batch: int, other: str, fits: Callable[[int, bytes], bool] = lambda *_: True
    ) -> None:
        """Look at what there is.

        Parameters
        ----------
        path, batch
            See the attributes.
        head
            All that decides the lines, as whole lines.
        other
            What a file with another head is, and what follows: the end of a warning.
        fits
            Whether a line, by its number from 0, is still true. The first that is not is dropped, and all after it.

        Raises
        ------
        MachineError
            Another process adds to it.
        """
        self.path, self.batch, self.done = path, batch, 0
        self._head = head
        self._held: BinaryIO | None = None
        if path.is_file():
            self._hold()
            self._continue(other, fits)

    def _continue(self, other: str, fits: Callable[[int, bytes], bool]) -> None:
        """Keep the whole batches of lines that are about the same, and still true."""
        end = len(self._head)
        with self.path.open("rb") as stream:
            if stream.read(end) != self._head:
                warn(f"{self.path} is {other}")
                self.forget()
                return
            for number, line in enumerate(stream):
                if not line.endswith(b"\n") or not fits(number, line):
                    break
                if (number + 1) % self.batch == 0:
                    self.done, end = number + 1, stream.tell()
        os.truncate(self.path, end)

    @contextmanager
    def open(self) -> Iterator["Lines"]:
        """Open it to add lines."""
        with naming(self.path):
            with making(self.path, self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._hold()
            try:
                if not self.done:
                    self.path.write_bytes(self._head)
                with self.path.open("a", encoding="utf-8", newline="") as stream:
                    yield Lines(stream, self.batch)
            except BaseException:
                self.release()
                raise

    def lines(self) -> Iterator[bytes]:
        """Yield the lines below the head."""
        with self.path.open("rb") as stream:
            stream.seek(len(self._head))
            yield from stream

    def forget(self) -> None:
        """Remove it, once everything is written."""
        self.path.unlink(missing_ok=True)
        self.release()

    def _hold(self) -> None:
        """Take the file for this process, until it is released or forgotten."""
        while self._held is None:
            stream = self.path.open("ab")
            if not acquire(stream.fileno(), 0):
                stream.close()
                raise MachineError(
                    f"another process is writing {self.path}. Wait for it to end, or name another --out."
                )
            if self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(stream.fileno())):
                self._held = stream
            else:  # it was removed in between by the process that has just finished
                stream.close()

    def release(self) -> None:
        """Let other processes add to it."""
        if self._held is not None:
            self._held.close()
        self._held = None


class Lines:
    """A place to write lines, which reach the disk a batch at a time."""

    def __init__(self, stream: Any, batch: int) -> None:
        self._stream, self._batch, self._count = stream, batch, 0

    def write(self, line: str) -> None:
        """Add one, with its end."""
        self._stream.write(line)
        self._count += 1
        if self._count % self._batch == 0:
            self._stream.flush()
