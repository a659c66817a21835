"""The table of `biopsy predict`, written as its rows come: whole or not at all where it is a file."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from biopsy.core.errors import ParamsError
from biopsy.core.extras import extra
from biopsy.core.files import atomic_file
from biopsy.core.text import as_text

KINDS = (".csv", ".json", ".jsonl", ".parquet")
WHOLE = ("images", "without_prediction", "x", "y", "width", "height")  # columns of whole numbers
SLIDES_ONLY = (
    "A folder is for whole slides alone; a TIFF counts as one if it is a pyramid or has more than 50 million pixels."
)
GROUP = 4096  # rows of a Parquet file that are in memory together
Row = dict[str, Any]


def is_share(column: str) -> bool:
    """Say whether a column holds shares, 0 to 1: probabilities, or the tissue of a tile."""
    return column.startswith("p_") or column == "tissue"


def check_out(out: Path | None) -> None:
    """Raise `ParamsError` where `out` is a folder or of another kind, `MachineError` where its package is missing."""
    if out is None:
        return
    if out.is_dir():
        raise ParamsError(f"--out: {out} is a folder. Name a file. {SLIDES_ONLY}")
    if out.suffix == ".geojson":
        raise ParamsError(
            f"--out: {out}: only the tiles of whole slides have places for GeoJSON. For images name a file that ends "
            f"in {', '.join(KINDS)}."
        )
    if out.suffix not in KINDS:
        raise ParamsError(f"--out: {out} must end in {', '.join(KINDS)}.{'' if out.suffix else f' {SLIDES_ONLY}'}")
    if out.suffix == ".parquet":
        with extra("parquet"):
            import pyarrow.parquet  # noqa: F401


def spare(out: Path | None, read: Iterable[Path], option: str) -> None:
    """Raise `ParamsError` where `out` would be written over a file that is read."""
    if out and out.is_file() and any(path.is_file() and out.samefile(path) for path in read):
        raise ParamsError(f"{option}: {out} is read, and would be written over. Name another.")


def write_table(rows: Iterable[Sequence[Row]], out: Path | None) -> None:
    """Write a table.

    Parameters
    ----------
    rows
        As many at a time as there are models: those of one model have the same keys, in the same order. What a model
        does not give is empty.
    out
        A file of one of `KINDS`; None: CSV on the standard output.
    """
    found = _complete(rows)
    if out and out.suffix == ".parquet":
        with atomic_file(out) as temporary:
            _write_parquet(found, temporary)
        return
    with _opened(out) as stream:
        _write(found, stream, out.suffix if out else ".csv")


def _complete(rows: Iterable[Sequence[Row]]) -> Iterator[Row]:
    """Yield rows with all columns, and nothing for what is no number: there is no prediction."""
    columns: list[str] = []
    for some in rows:
        columns = columns or _union([list(row) for row in some])
        for row in some:
            values = {name: row.get(name) for name in columns}
            yield {name: None if value != value or value == "" else value for name, value in values.items()}


def _union(several: Sequence[list[str]]) -> list[str]:
    """Put columns together; one that the first rows lack stands before what follows it in its own."""
    found = several[0]
    for columns in several[1:]:
        place = len(found)
        for name in reversed(columns):
            if name in found:
                place = found.index(name)
            else:
                found.insert(place, name)
    return found


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Open the table to write."""
    if out is None:
        yield sys.stdout
        return
    with (
        atomic_file(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def _write(rows: Iterable[Row], stream: TextIO, kind: str) -> None:
    """Write each row as it comes; all have the same keys."""
    table = None
    before, between, after = ("[", ",", "]\n") if kind == ".json" else ("", "", "")
    for row in rows:
        if kind == ".csv":
            if table is None:
                table = csv.DictWriter(stream, list(row), lineterminator="\n")
                table.writeheader()
            table.writerow(row)  # None is an empty cell
        else:
            stream.write(f"{before}{json.dumps(row)}\n")
            before = between
    stream.write(after)


def _write_parquet(rows: Iterator[Row], path: Path) -> None:
    """Write rows, a group at a time: probabilities as float64, counts as int64, marks as bool, the rest as text."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter
    from pyarrow.parquet import write_table as write_whole

    def kind(name: str, grouped: bool) -> Any:
        if is_share(name):
            return pa.float64()
        if name in WHOLE or (grouped and name == "in_training"):
            return pa.int64()
        return pa.bool_() if name in ("in_training", "abstain") else pa.string()

    writer = None
    while some := list(islice(rows, GROUP)):
        if writer is None:
            schema = pa.schema([(name, kind(name, "images" in some[0])) for name in some[0]])
            writer = ParquetWriter(path, schema)
        for row in some:
            row |= {name: as_text(value) for name, value in row.items() if isinstance(value, str)}
        writer.write_table(pa.Table.from_pylist(some, schema))
    if writer:
        writer.close()
    else:
        write_whole(pa.table({}), path)
