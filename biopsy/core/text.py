"""Comparing the words of tables as people spell them: names of columns, labels, ids, and marks of a missing value."""

import re
import unicodedata
from collections.abc import Iterable

# What stands for a missing value, small letters; the only such list of the project.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "--", "'--", "not reported", "unknown"})


def plain(text: str) -> str:
    """Reduce a label to its letters and digits, so that `Ductal_Carcinoma` and `ductal carcinoma` are one.

    A label without letters and digits, such as `+`, stays as it is.
    """
    folded = text.casefold().strip()
    return re.sub(r"[\W_]+", "", folded) or folded


def is_missing(text: str) -> bool:
    """Tell whether a cell stands for a missing value."""
    return text.strip().casefold() in MISSING


def fold(text: str) -> str:
    """Return a text so that spellings that differ in letter case or Unicode form (NFC, NFD) are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def id_key(text: str) -> str:
    """Return what identifies a case or slide: letter case, Unicode form, blanks and invisible characters do not count.

    `P01`, `p01` and ` P 01` have one key; `007` and `7` have two, see `alike`.
    """
    return "".join(letter for letter in fold(text) if not letter.isspace() and unicodedata.category(letter) != "Cf")


def first_spellings(values: Iterable[str]) -> list[str]:
    """Write every id as the first id with the same `id_key` is written."""
    first: dict[str, str] = {}
    return [first.setdefault(id_key(value), value) for value in values]


def alike(values: Iterable[str]) -> list[list[str]]:
    """Group ids that may be one: those that differ only in leading zeros or in a `.0` at the end.

    Returns
    -------
    list of list of str
        Such as [["007", "7", "7.0"]]; both levels sorted. Ids that stand alone are left out.
    """
    groups: dict[str, set[str]] = {}
    for value in set(values):
        without = re.sub(r"(?<=[0-9])\.0+$", "", id_key(value))
        groups.setdefault(re.sub(r"(?<![0-9.])0+(?=[0-9])", "", without), set()).add(value)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
