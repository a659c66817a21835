"""`biopsy predict`: find the images that a person names, predict them, and write a table as it grows."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from biopsy.core.errors import DataError, ParamsError, SourceError, some
from biopsy.core.files import IMAGE_SUFFIXES, atomic_file
from biopsy.core.rawcsv import read_records
from biopsy.core.text import plain

KINDS = (".csv", ".json", ".jsonl")


def predict_files(inputs: Sequence[str], path: Path | None, out: Path | None) -> int:
    """Predict images and write a row for each; return how many have no prediction.

    Parameters
    ----------
    inputs
        Image files, folders (all images below them), a .csv with a column `path`, or `-` for a list of paths on the
        standard input.
    path
        The model, a folder or an .onnx file; None: the only one of `find_models`.
    out
        A .csv, .json or .jsonl to write; None: CSV on the standard output.

    Raises
    ------
    ParamsError, DataError, SourceError
        No image, no model or more than one, another kind of file than these.
    """
    if out and out.suffix not in KINDS:
        raise ParamsError(f"--out: {out} must end in {', '.join(KINDS)}.")
    path = path or only_model()
    images = find_images(inputs)
    from biopsy.serving.model import Model, describe  # seconds, after mistakes have shown

    model = Model(path)
    print(describe(model.card), file=sys.stderr)
    failed = 0
    with _opened(out) as stream:
        rows = model.rows(tqdm(images, "predict", unit="image", delay=2, file=sys.stderr))
        for row in _written(rows, model.columns, stream, out.suffix if out else ".csv"):
            failed += bool(row["error"])
    return failed


def find_images(inputs: Sequence[str]) -> list[Path]:
    """List the images that inputs name, in order, each once. Raises `DataError` where one names none."""
    found: dict[Path, None] = {}
    for given in inputs:
        path = Path(given).expanduser()
        if given == "-":
            listed = [Path(line) for line in sys.stdin.read().splitlines() if line.strip()]
        elif path.is_dir():
            listed = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif path.suffix.lower() == ".csv":
            listed = _listed_in(path)
        else:
            listed = [path]
            if not path.exists():
                raise DataError(f"{path} does not exist. Name image files, folders, a .csv with a column 'path', or -.")
        if not listed:
            kinds = " ".join(IMAGE_SUFFIXES)
            raise DataError(f"{given} holds no image ({kinds}). Name image files or a folder of them.")
        found |= dict.fromkeys(listed)
    return list(found)


def _listed_in(path: Path) -> list[Path]:
    """Read the column `path` of a CSV; relative paths are relative to the CSV's folder."""
    records = read_records(path, ["path"])
    place = [i for i, column in enumerate(records.header) if plain(column) == "path"]
    if len(place) != 1:
        raise DataError(f"{path} needs one column 'path'; it has {some(records.header)}.")
    return [path.parent / cells[place[0]] for _, cells in records.rows if len(cells) > place[0] and cells[place[0]]]


def find_models(root: Path = Path()) -> list[Path]:
    """List the model folders in models/, or, where there are none, the files in exports/."""
    folders = sorted(path.parent for path in (root / "models").glob("*/model.json"))
    return folders or sorted((root / "exports").glob("*.onnx"))


def only_model() -> Path:
    """Return the one model here. Raises `SourceError` where there is none, or a choice."""
    found = find_models()
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError("models/ holds no model. Name one with --model, get one with `dvc pull`, or train.")
    raise SourceError(f"{found[0].parent}/ holds several models: {some(found, 8)}. Name one with --model.")


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Open the table to write: whole or not at all where it is a file."""
    if out is None:
        yield sys.stdout
        return
    with (
        atomic_file(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def _written(
    rows: Iterable[dict[str, Any]], columns: Sequence[str], stream: TextIO, kind: str
) -> Iterator[dict[str, Any]]:
    """Write each row as it comes, and pass it on."""
    table = csv.DictWriter(stream, columns, lineterminator="\n") if kind == ".csv" else None
    if table:
        table.writeheader()
    for number, row in enumerate(rows):
        clean = {name: "" if value != value else value for name, value in row.items()}  # NaN: no prediction
        if table:
            table.writerow(clean)
        else:
            told = {name: None if value == "" else value for name, value in clean.items()}
            stream.write(("[" if kind == ".json" and not number else "," if kind == ".json" else "") + json.dumps(told))
            stream.write("\n")
        yield row
    if kind == ".json":
        stream.write("]\n")
