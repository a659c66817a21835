"""What the file names of a table of images give: ids, and facts that fill its gaps."""

from hashlib import sha256
from pathlib import PurePosixPath

import pandas as pd

from biopsy.core.errors import DataError, some
from biopsy.core.text import count, first_spellings
from biopsy.tables.labels.grammars import facts_in
from biopsy.tables.labels.scheme import LabelScheme

LONGEST = 255  # bytes of a file name, on every file system in use


def image_ids(paths: pd.Series, scheme: LabelScheme) -> list[str]:
    """Make every image's id from its path only, so that no file added later changes the id and thus its part.

    The id is the file's stem if the name follows the scheme's grammar, whose names are unique. Else it is the path
    without its ending, with `__` for `/`; if that is too long for a file name, the first digits of the path's SHA-256
    and the stem.

    Raises
    ------
    DataError
        Two paths with one id, or a name too long for the file of the resized image.
    """
    ids = [_image_id(PurePosixPath(path), facts_in(path, scheme.grammar) is not None) for path in paths]
    first: dict[str, str] = {}
    pairs = [
        f"{first[name]} and {path}"
        for name, path in zip(ids, paths, strict=True)
        if first.setdefault(name, path) != path
    ]
    if pairs:
        raise DataError(
            f"{some(pairs, 3)} get the same image id. Rename one file of such a pair, or leave it out of the table."
        )
    long = [path for name, path in zip(ids, paths, strict=True) if _is_too_long(name)]
    if long:
        raise DataError(
            f"{len(long)} images have names of more than {LONGEST - 17} bytes, too long for the files that are made of "
            f"them ({some(long, 1)}). Rename the files."
        )
    return ids


def _image_id(path: PurePosixPath, follows_grammar: bool) -> str:
    if follows_grammar:
        return path.stem
    name = str(path.with_suffix("")).replace("/", "__")
    return f"{sha256(str(path).encode()).hexdigest()[:12]}-{path.stem}" if _is_too_long(name) else name


def _is_too_long(name: str) -> bool:
    return len(f"{name}.png".encode()) > LONGEST


def facts_of(scheme: LabelScheme) -> list[str]:
    """Name the columns that hold facts about an image: a label for each task, magnification, slide, case."""
    return [*scheme.columns, "magnification", "slide", "case"]


def whole_slides(table: pd.DataFrame) -> pd.Series:
    """Return every image's slide; a case without slides counts as one slide."""
    return table["slide"].where(table["slide"] != "", table["case"])


def count_groups(slides: int, cases: int) -> str:
    """Write the number of slides and cases: `10 slides and 4 cases`, `unknown slides and cases`."""
    if not slides and not cases:
        return "unknown slides and cases"
    return f"{count(slides, 'slide')} and {count(cases, 'case')}"


def read_names(paths: pd.Series, scheme: LabelScheme) -> pd.DataFrame:
    """Return the facts in the file names, with the index of `paths`: text, empty where a name does not tell."""
    columns = facts_of(scheme)
    facts = (facts_in(path, scheme.grammar) or {} for path in paths)
    rows = [[found.get(column, "") for column in columns] for found in facts]
    return pd.DataFrame(rows, index=paths.index, columns=columns, dtype=str)


def fill(table: pd.DataFrame, names: pd.DataFrame, scheme: LabelScheme) -> pd.DataFrame:
    """Fill the gaps of a table's columns from the file names, and a task's labels from those of its child.

    Slides and cases with the same `text.id_key` get one spelling, that of a file name if there is one.
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
