"""The table of tiles while it grows: a file whose first line says what it is about, so that a rerun can continue it."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biopsy.core.errors import DataError, naming, warn
from biopsy.core.files import atomic_file, read_json

UNFINISHED, TABLE, SUMMARY = "tiles.unfinished.csv", "tiles.csv", "summary.json"
OUTPUTS = (TABLE, "tiles.geojson", "heatmap.png", "heatmap.tif", SUMMARY)


class Journal:
    """The rows of one slide.

    Attributes
    ----------
    done
        How many tiles have a row from an earlier call, whole batches only: else the rest would be batched otherwise,
        and the last digits of its probabilities differ.
    batch
        Tiles in a batch.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], columns: Sequence[str], batch: int) -> None:
        """Look at what lies in the folder; `about` is all that decides the rows, in JSON's types."""
        self.folder, self.done = folder, 0
        self._about, self.batch, self._columns = dict(about), batch, list(columns)
        self._path = folder / UNFINISHED
        self._head = f"# {json.dumps(self._about, sort_keys=True)}\n{','.join(columns)}\n".encode()
        if self._path.is_file():
            self._continue()

    def _continue(self) -> None:
        """Keep the whole batches of rows, if they are about the same."""
        end = 0
        with self._path.open("rb") as stream:
            if stream.read(len(self._head)) != self._head:
                warn(f"{self._path} is of another slide, model or scale, so the tiles are predicted again.")
                self._path.unlink()
                return
            for number, row in enumerate(stream, 1):
                if not row.endswith(b"\n"):
                    break
                if number % self.batch == 0:
                    self.done, end = number, stream.tell()
        os.truncate(self._path, end or len(self._head))

    def finished(self) -> dict[str, Any] | None:
        """Return the summary of an earlier call that came to its end with the same slide, model and scale."""
        path = self.folder / SUMMARY
        if not all((self.folder / name).is_file() for name in OUTPUTS) or self._path.exists():
            return None
        try:
            found: dict[str, Any] = read_json(path, {"made_of": dict})
        except DataError:
            found = {}
        if found.get("made_of") == self._about:
            return found
        warn(f"{self.folder} holds the result of another slide, model or scale, so the tiles are predicted again.")
        return None

    @contextmanager
    def open(self) -> Iterator["Rows"]:
        """Open it to add rows."""
        with naming(self._path):
            if not self.done:
                self._path.write_bytes(self._head)
            with self._path.open("a", encoding="utf-8", newline="") as stream:
                yield Rows(csv.DictWriter(stream, self._columns, lineterminator="\n"), stream, self.batch)

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows."""
        with self._path.open(encoding="utf-8", newline="") as stream:
            next(stream)
            yield from csv.DictReader(stream)

    def close(self) -> None:
        """Write `tiles.csv`. The journal stays until `forget`."""
        with (
            self._path.open("rb") as rows,
            atomic_file(self.folder / TABLE) as temporary,
            temporary.open("wb") as out,
        ):
            next(rows)
            out.writelines(rows)

    def forget(self) -> None:
        """Remove the journal, once everything is written."""
        self._path.unlink()


class Rows:
    """A place to put rows, which reach the disk a batch at a time."""

    def __init__(self, table: "csv.DictWriter[str]", stream: Any, batch: int) -> None:
        self._table, self._stream, self._batch, self._count = table, stream, batch, 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one."""
        self._table.writerow(row)
        self._count += 1
        if self._count % self._batch == 0:
            self._stream.flush()
