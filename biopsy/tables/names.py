"""What file names say about a table of images: their ids, and the facts that fill its gaps."""

from collections import Counter
from pathlib import PurePosixPath

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.tables.labels.breakhis import class_of, parse

FACTS = ["class", "subtype", "magnification", "slide", "case"]
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


def read_names(paths: pd.Series) -> pd.DataFrame:
    """Return what the file names say, with the index of `paths`: text, empty where a name is not BreakHis's."""
    names = [parse(path) for path in paths]
    facts = [(n.label, n.subtype, str(n.magnification), n.slide, n.case) if n else ("",) * 5 for n in names]
    return pd.DataFrame(facts, index=paths.index, columns=FACTS, dtype=str)


def fill(table: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Fill the gaps of a table's columns from the file names, and the class from the tumour type.

    A slide that differs from a file name's in its letters' case alone is written as there: else it would be two.
    """
    columns = FACTS
    filled = table.assign(**table[columns].where(table[columns] != "", names[columns]))
    spelling = {slide.casefold(): slide for slide in names["slide"]}
    filled["slide"] = filled["slide"].map(lambda slide: spelling.get(slide.casefold(), slide))
    of_type = filled["subtype"].map(lambda subtype: class_of(subtype) if subtype else "")
    filled["class"] = filled["class"].where(filled["class"] != "", of_type)
    return filled
