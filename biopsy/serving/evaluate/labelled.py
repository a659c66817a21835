"""A user's own labelled images, on which a model is evaluated: a CSV and a folder, read without losing a row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from biopsy.core.errors import DataError, ParamsError, nearest, some, warn
from biopsy.core.files import at_home
from biopsy.core.folders import is_file, is_image
from biopsy.core.matching import match_missing
from biopsy.core.rawcsv import Records, find_column, read_records
from biopsy.core.text import alike, changed, count, first_spellings, is_missing, plain, read_magnification
from biopsy.serving.inputs import GROUPS, PATHS
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.names import read_names
from biopsy.tables.split.parts import cases_of

FACTS = ("case", "slide", "magnification")
NO_LABEL, NO_FILE, TWICE = "it has no label", "there is no such file", "an earlier row lists it"


@dataclass(frozen=True)
class Labelled:
    """A table of labelled images.

    Attributes
    ----------
    rows
        A row for each of the CSV, text but for `row` and `file`: `row` (its line), `image_id` (as the CSV writes it),
        `file` (Path), `truth` (a class), `case` (what counts as one), `named_case`, `slide`, `magnification`, and
        `error`: empty, or why the image is left out.
    separator
        Of the CSV, in words.
    """

    rows: pd.DataFrame
    separator: str

    @property
    def used(self) -> pd.DataFrame:
        """The rows that are not left out."""
        return self.rows[self.rows["error"] == ""].reset_index(drop=True)


def read_labelled(
    csv: Path, folder: Path, scheme: LabelScheme, task: str, label: str | None = None, words: Sequence[str] = ()
) -> Labelled:
    """Read a CSV of images, labels and, where they are known, cases, slides and magnifications.

    Parameters
    ----------
    csv
        Its columns: `path` (or another of `PATHS`), the label, `case`, `slide` (`GROUPS`), `magnification`. Where a row
        has no label, or neither case nor slide, the file name tells them if it follows the scheme's grammar.
    folder
        What paths are relative to; a path may leave out folders or the ending, as for `ingest`.
    scheme, task
        Of the model: what labels mean. A label of a task below this one, such as a tumour type, stands for its parent.
    label
        The column of labels; None: that of the scheme, or `label`, or the task's name.
    words
        Other words for classes, each `WORD=CLASS`.

    Raises
    ------
    DataError, ParamsError
        No such column, no label that the model knows, no file, one image with two labels or cases.
    """
    records = read_records(csv, [*PATHS, *FACTS, label or "label"])
    meant = _words(words, scheme, task)
    scheme = scheme.model_copy(update={"map": {**scheme.map, **meant}})
    columns = {"image_id": _image(records, csv), "text": _labels(records, scheme, task, label, csv)}
    for fact in FACTS:
        place = _find(records, GROUPS.get(fact, (fact,)), csv)
        columns |= {} if place is None else {fact: place}
    rows = pd.DataFrame(
        [
            {name: cells[i] if i < len(cells) else "" for name, i in columns.items()} | {"row": line}
            for line, cells in records.rows
        ]
    )
    labels = set(rows["text"].map(plain))
    for word in meant:
        if plain(word) not in labels:
            warn(f"--map {word}={meant[word]}: no row of {csv} has the label {word}.")
    written = rows["text"]
    rows = _complete(rows, scheme, task)
    if named := int((rows["text"] != written).sum()):
        warn(f"{csv}: {count(named, 'row')} of {len(rows):,} without a label, which the file names give.")
    files, hints = _files(list(rows["image_id"]), folder)
    rows["file"] = pd.Series(files, rows.index, dtype=object)
    rows["error"] = [_fault(text, truth, file) for text, truth, file in rows[["text", "truth", "file"]].to_numpy()]
    if groups := alike(filter(None, rows["named_case"]), of_patients=True):
        told = some((" / ".join(group) for group in groups), 3)
        warn(f"{csv}: the cases {told} may be one. Each counts by itself: write one id in one way.")
    if ids := changed(rows["named_case"]):
        warn(f"{csv}: a spreadsheet seems to have changed the cases {some(ids, 3)}. Export the column as text.")
    alone = int(((rows["named_case"] == "") & (rows["slide"] == "")).sum())
    if 0 < alone < len(rows):
        warn(
            f"{csv}: {count(alone, 'row')} of {len(rows):,} without a case, unlike the others. Each counts as a case, "
            "so intervals may be too narrow: fill in the column 'case'."
        )
    elif alone:
        warn(
            f"{csv} names no cases (it has {some(records.header, 12)}): each image counts as one, so intervals are too "
            "narrow where several images are of one patient. Call the column of patients 'case'."
        )
    elif len(rows) > 1 and (rows["named_case"] != "").all() and rows["named_case"].is_unique:
        warn(
            f"{csv}: each image has a case of its own, so intervals are too narrow where several images are of one "
            "patient. Write the patients into the column 'case'."
        )
    _settle_doubles(rows, csv)
    rows["hint"] = rows["image_id"].map(hints)
    _check_rest(rows, csv, folder, scheme[task].names, records.header[columns["text"]])
    return Labelled(rows, records.separator)


def _complete(rows: pd.DataFrame, scheme: LabelScheme, task: str) -> pd.DataFrame:
    """Read the labels, fill from the file names what the table leaves open, and say what counts as a case."""
    for name in FACTS:
        rows[name] = rows[name].where(~rows[name].map(is_missing), "") if name in rows else ""
    names = read_names(rows["image_id"], scheme)
    silent = (rows["case"] == "") & (rows["slide"] == "")  # a case of the name need not be that of the CSV's slide
    for name in ("case", "slide"):
        rows[name] = first_spellings(rows[name].where(~silent, names[name]))
    rows["magnification"] = [read_magnification(text) or text for text in rows["magnification"]]
    rows["magnification"] = rows["magnification"].where(rows["magnification"] != "", names["magnification"])
    for name in reversed(scheme.columns):  # the finest first
        unlabelled = rows["text"].map(is_missing) & rows["text"].map(lambda text: _truth(text, scheme, task) is None)
        rows["text"] = rows["text"].where(~unlabelled | (names[name] == ""), names[name])
    rows["truth"] = [_truth(text, scheme, task) or "" for text in rows["text"]]
    return rows.assign(named_case=rows["case"], case=cases_of(rows))


def _words(given: Sequence[str], scheme: LabelScheme, task: str) -> dict[str, str]:
    """Read `--map WORD=CLASS`."""
    found = dict[str, str]()
    for text in given:
        word, equals, name = text.rpartition("=")
        if not equals or not word or _truth(name, scheme, task) is None:
            classes = scheme[task].names
            raise ParamsError(
                f"--map {text}: write WORD=CLASS, with one of the classes {', '.join(classes)}.{nearest(name, classes)}"
            )
        if plain(word) in {plain(other) for other, before in found.items() if before != name}:
            raise ParamsError(f"--map gives {word} two classes. Keep one.")
        found[word] = name
    return found


def _find(records: Records, names: Sequence[str], csv: Path) -> int | None:
    """Find the column of the first of these names that the CSV has; None where it has none."""
    for name in names:
        found = [i for i, column in enumerate(records.header) if plain(column) == plain(name)]
        if len(found) > 1:
            raise DataError(f"{csv} has {len(found)} columns '{name}'. Keep one.")
        if found:
            return found[0]
    return None


def _image(records: Records, csv: Path) -> int:
    """Find the column that names the image."""
    place = _find(records, PATHS, csv)
    if place is None:
        raise DataError(
            f"{csv} needs a column '{PATHS[0]}' of image files; it has {some(records.header, 12)}. "
            f"Rename one to '{PATHS[0]}'."
        )
    return place


def _labels(records: Records, scheme: LabelScheme, task: str, label: str | None, csv: Path) -> int:
    """Find the column of labels."""
    if label:
        return find_column(records.header, label, "--label", csv)
    below = [other for other in scheme.tasks.values() if other.parent == task]
    named = [scheme[task].column, task, "label", "class", "truth", *(other.column for other in below)]
    wanted = list(dict.fromkeys(filter(None, named)))
    places = [place for name in wanted if (place := _find(records, [name], csv)) is not None]
    if not places:
        raise DataError(
            f"{csv} has no column of labels ({some(wanted, 9)}); it has {some(records.header, 12)}. Name it with "
            "--label."
        )
    for line, cells in records.rows:
        told = {records.header[i]: _truth(cells[i], scheme, task) for i in places if i < len(cells)}
        if len({truth for truth in told.values() if truth}) > 1:
            raise DataError(
                f"{csv} row {line}: the columns {' and '.join(told)} give different labels. Name the right one with "
                "--label."
            )
    return places[0]


def _truth(text: str, scheme: LabelScheme, task: str) -> str | None:
    """Return the class of the task that a label names, itself or by its parent; None where it names none."""
    found = scheme.read(task, text)
    for name, other in scheme.tasks.items():
        if not found and other.parent == task:
            found = other.parents.get(scheme.read(name, text) or "")
    return found or None


def _files(paths: Sequence[str], folder: Path) -> tuple[list[Path | None], dict[str, str]]:
    """Find each path's file, None where there is none; say by path what is there instead."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Name the folder of the images with --images.")
    direct = {path: folder / at_home(path) for path in paths if path}
    matches = match_missing(direct, folder, lambda file: is_image(file.name))
    known = direct | {path: folder / file for path, file in matches.files.items()}
    return [known[path] if path and is_file(known[path]) else None for path in paths], matches.hints


def _fault(text: str, truth: str, file: Path | None) -> str:
    if is_missing(text) and not truth:
        return NO_LABEL
    if not truth:
        return f"'{text}' is not a class of the model"
    return "" if file else NO_FILE


def _settle_doubles(rows: pd.DataFrame, csv: Path) -> None:
    """Leave out rows that repeat another; raise where they contradict it."""
    first: dict[Path, tuple[Any, ...]] = {}
    columns = ["file", "row", "truth", "case", "image_id"]
    for i, file, *told in rows.loc[rows["error"] == "", columns].itertuples():
        before = first.setdefault(file.resolve(), (i, *told))
        if before[0] == i:
            continue
        if before[2:4] != tuple(told[1:3]):
            raise DataError(
                f"{csv} rows {before[1]} and {told[0]} give {told[3]} two labels or cases. Keep the right row."
            )
        rows.loc[i, "error"] = TWICE


def _check_rest(rows: pd.DataFrame, csv: Path, folder: Path, classes: Sequence[str], column: str) -> None:
    """Raise where no image is left to evaluate."""
    if (rows["error"] == "").any():
        return
    reason = Counter(rows["error"]).most_common(1)[0][0]
    n = count(len(rows), "row")
    if reason == NO_FILE:
        raise DataError(
            f"{csv}: none of the images of its {n} is in {folder} (the first is {rows['image_id'][0] or 'not named'}"
            f"{f'; {hint}' if isinstance(hint := rows['hint'][0], str) else ''}). Name the folder that holds them with "
            "--images, and write the paths as they are below it."
        )
    found = some(sorted({text for text in rows["text"] if not is_missing(text)}), 4) or "nothing"
    raise DataError(
        f"{csv}: column '{column}' of its {n} has no label that the model knows ({found}). Its classes are "
        f"{', '.join(classes)}. Name the words with --map WORD=CLASS, or another column with --label."
    )


def count_left_out(rows: pd.DataFrame) -> dict[str, int]:
    """Count the rows that are left out, by reason, the most frequent first."""
    return dict(Counter(error for error in rows["error"] if error).most_common())
