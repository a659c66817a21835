"""The table of `biopsy predict`, written as its rows come: whole or not at all where it is a file."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from biopsy.core.files import atomic_file

KINDS = (".csv", ".json", ".jsonl")
Row = dict[str, Any]


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
    with _opened(out) as stream:
        _write(_complete(rows), stream, out.suffix if out else ".csv")


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
