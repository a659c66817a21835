"""What file names say about a table of images: their ids, and the facts that fill its gaps."""

from collections import Counter
from pathlib import PurePosixPath

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.text import first_spellings
from biopsy.tables.labels.grammars import find
from biopsy.tables.labels.scheme import LabelScheme

LONGEST = 255  # bytes of a file name, on every file system in use


def image_ids(paths: pd.Series) -> list[str]:
    """Name every image by its file's stem; where stems coincide (case ignored), by the path, `/` written `__`.

    Raises
    ------
    DataError
        Two paths that no such name tells apart, or a name too long for the file of the resized image.
    """
    pure = [PurePosixPath(path) for path in paths]
    ids = [path.stem for path in pure]
    flat = [str(path.with_suffix("")).replace("/", "__") for path in pure]
    for longer in (flat, [name + path.suffix.replace(".", "-") for name, path in zip(flat, pure, strict=True)]):
        counts = Counter(name.casefold() for name in ids)
        ids = [other if counts[name.casefold()] > 1 else name for name, other in zip(ids, longer, strict=True)]
    again = [name for name, count in Counter(ids).items() if count > 1]
    if again:
        raise DataError(f"files in several folders get the same image id ({some(again)}). Rename one of each.")
    long = [path for name, path in zip(ids, paths, strict=True) if len(f"{name}.png".encode()) > LONGEST]
    if long:
        raise DataError(
            f"{len(long)} images would get an id, the file's name or where that is not unique its whole path, of more "
            f"than {LONGEST - 4} bytes, too long for a file name ({some(long, 1)}). Rename the files or shorten the "
            "names of their folders."
        )
    return ids


def facts_of(scheme: LabelScheme) -> list[str]:
    """Name the columns that hold facts about an image: a label for each task, magnification, slide, case."""
    return [*scheme.columns, "magnification", "slide", "case"]


def read_names(paths: pd.Series, scheme: LabelScheme) -> pd.DataFrame:
    """Return what the file names say, with the index of `paths`: text, empty where a name does not tell."""
    columns = facts_of(scheme)
    parse = find(scheme.grammar).parse if scheme.grammar else lambda path: None
    facts = [parse(path) or {} for path in paths]
    rows = [[found.get(column, "") for column in columns] for found in facts]
    return pd.DataFrame(rows, index=paths.index, columns=columns, dtype=str)


def fill(table: pd.DataFrame, names: pd.DataFrame, scheme: LabelScheme) -> pd.DataFrame:
    """Fill the gaps of a table's columns from the file names, and a task's label from that of its child.

    Slides and cases that `text.id_key` holds for one are spelled in one way, that of a file name if one has it.
    """
    columns = facts_of(scheme)
    filled = table.assign(**table[columns].where(table[columns] != "", names[columns]))
    for column in ("slide", "case"):
        filled[column] = first_spellings([*names[column], *filled[column]])[len(names) :]
    for name, task in scheme.tasks.items():
        if task.parent:
            of_child = filled[name].map(lambda label, parents=task.parents: parents.get(label, ""))
            filled[task.parent] = filled[task.parent].where(filled[task.parent] != "", of_child)
    return filled
