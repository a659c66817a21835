"""Lines of what is done, in a file that begins with what they are about, so that a rerun goes on after them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biopsy.core.errors import naming, warn


class Journal:
    """The lines of one piece of work.

    Attributes
    ----------
    path
        The file.
    done
        How many lines there are from an earlier call, whole batches only: else the rest would be batched otherwise, and
        the last digits of its probabilities differ.
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
            Whether a line, by its number from 0, is still true. From the first that is not, all are dropped.
        """
        self.path, self.batch, self.done = path, batch, 0
        self._head = head
        if path.is_file():
            self._continue(other, fits)

    def _continue(self, other: str, fits: Callable[[int, bytes], bool]) -> None:
        """Keep the whole batches of lines that are about the same, and still true."""
        end = len(self._head)
        with self.path.open("rb") as stream:
            if stream.read(end) != self._head:
                warn(f"{self.path} is {other}")
                self.path.unlink()
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
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.done:
                self.path.write_bytes(self._head)
            with self.path.open("a", encoding="utf-8", newline="") as stream:
                yield Lines(stream, self.batch)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines below the head."""
        with self.path.open("rb") as stream:
            stream.seek(len(self._head))
            yield from stream

    def forget(self) -> None:
        """Remove it, once everything is written."""
        self.path.unlink(missing_ok=True)


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
