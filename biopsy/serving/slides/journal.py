"""The table of tiles while it grows, which a rerun can continue."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biopsy.core.errors import DataError, warn
from biopsy.core.files import atomic_file, read_json
from biopsy.core.folders import HEATMAPS, TILES
from biopsy.serving.journal import ROUNDED, Journal

UNFINISHED, SUMMARY = "tiles.unfinished.csv", "summary.json"
OUTPUTS = (TILES, "tiles.geojson", *HEATMAPS, SUMMARY)
OTHER = "of another slide, model or scale, so the tiles are predicted again."


class TileJournal(Journal):
    """The rows of one slide: a journal that is a CSV below its first line."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], columns: Sequence[str], batch: int, size: tuple[int, int]
    ) -> None:
        """Look at what lies in the folder.

        Parameters
        ----------
        folder, columns, batch
            Of the results of a slide, and of their rows; see `Journal`.
        about
            All that decides the rows, in JSON's types.
        size
            Width and height of the slide in pixels.
        """
        self.folder, self._about, self.columns, self._size = folder, dict(about), list(columns), size
        head = f"# {json.dumps(self._about, sort_keys=True)}\n{','.join(columns)}\n"
        super().__init__(folder / UNFINISHED, head.encode(), batch, OTHER, self._fits)

    def _fits(self, _: int, line: bytes) -> bool:
        """Say whether a row is one of a tile of the slide, and not edited into something else."""
        try:
            (cells,) = csv.reader([line.decode()], strict=True)
            row = dict(zip(self.columns, cells, strict=True))
            x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
            shares = {name: float(row[name]) for name in row if name.startswith("p_") and not row["error"]}
            tissue = float(row["tissue"])
        except (ValueError, KeyError, csv.Error):
            return False
        there = 0 <= x <= self._size[0] - width + 1 and 0 <= y <= self._size[1] - height + 1  # corners are rounded
        known = bool(row["error"]) or (f"p_{row['predicted']}" in shares and abs(sum(shares.values()) - 1) < ROUNDED)
        return there and known and 0 <= tissue <= 1

    def finished(self) -> dict[str, Any] | None:
        """Return the summary of an earlier call that came to its end with the same slide, model and scale."""
        path = self.folder / SUMMARY
        if not all((self.folder / name).is_file() for name in OUTPUTS) or self.path.exists():
            return None
        try:
            found: dict[str, Any] = read_json(path, {"made_of": dict})
        except DataError:
            found = {}
        if found.get("made_of") == self._about:
            return found
        warn(f"{self.folder} holds the result {OTHER}")
        return None

    @contextmanager
    def table(self) -> Iterator["csv.DictWriter[str]"]:
        """Open it to add rows."""
        with self.open() as lines:
            yield csv.DictWriter(lines, self.columns, lineterminator="\n")

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows."""
        with self.path.open(encoding="utf-8", newline="") as stream:
            next(stream)
            yield from csv.DictReader(stream)

    def close(self) -> None:
        """Write `tiles.csv`. The journal stays until `forget`."""
        with self.path.open("rb") as rows, atomic_file(self.folder / TILES) as temporary, temporary.open("wb") as out:
            next(rows)
            out.writelines(rows)
