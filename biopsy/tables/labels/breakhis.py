"""BreakHis: its classes, and the grammar of its file names (Spanhol et al., IEEE TBME 63(7), 2016).

SOB_{B|M}_{A|F|PT|TA|DC|LC|MC|PC}-{year}-{slide}-{magnification}-{seq}.png      SOB_M_DC-14-10926-100-003.png
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from biopsy.core.text import plain

CLASSES = ("benign", "malignant")
# code: (class, name in words); the order is the order of the eight labels everywhere.
TYPES = {
    "A": ("benign", "adenosis"),
    "F": ("benign", "fibroadenoma"),
    "PT": ("benign", "phyllodes tumor"),
    "TA": ("benign", "tubular adenoma"),
    "DC": ("malignant", "ductal carcinoma"),
    "LC": ("malignant", "lobular carcinoma"),
    "MC": ("malignant", "mucinous carcinoma"),
    "PC": ("malignant", "papillary carcinoma"),
}
SUBTYPES = tuple(TYPES)
MAGNIFICATIONS = (40, 100, 200, 400)

NAME = re.compile(rf"SOB_([BM])_({'|'.join(SUBTYPES)})-(\d\d)-(\d+[A-Z]*)-(40|100|200|400)-(\d+)")


@dataclass(frozen=True)
class Name:
    """What a BreakHis file name says; `case` is the slide's number without its letters."""

    label: str
    subtype: str
    year: int
    slide: str
    case: str
    magnification: int
    seq: int


def parse(path: str) -> Name | None:
    """Read the facts off a file name.

    Parameters
    ----------
    path
        A file name, or a path with `/` whose last part is one.

    Returns
    -------
    Name or None
        None where the name does not follow the grammar, or puts a benign type under M or a malignant one under B.

    Examples
    --------
    >>> parse("40X/SOB_B_A-14-22549AB-40-001.png")
    Name(label='benign', subtype='A', year=14, slide='22549AB', case='22549', magnification=40, seq=1)
    """
    found = NAME.fullmatch(PurePosixPath(path).stem)
    if found is None:
        return None
    initial, subtype, year, slide, magnification, seq = found.groups()
    label = class_of(subtype)
    if initial.lower() != label[0]:
        return None
    return Name(label, subtype, int(year), slide, case_of(slide), int(magnification), int(seq))


def class_of(subtype: str) -> str:
    """Return `benign` or `malignant` for one of the eight codes."""
    return TYPES[subtype][0]


def case_of(slide: str) -> str:
    """Return the case of a BreakHis slide, its number: `22549AB` and `22549CD` are of case `22549`.

    That a shared number means one patient is likely and not confirmed.
    """
    return slide.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


CLASS_ALIASES = {plain(alias): name for name in CLASSES for alias in (name, name[0])}
TYPE_ALIASES = {plain(alias): code for code, (_, name) in TYPES.items() for alias in (code, name)}
TYPE_ALIASES |= {"phyllodestumour": "PT", "phyllodes": "PT", "ductal": "DC", "lobular": "LC", "mucinous": "MC"}
TYPE_ALIASES |= {"papillary": "PC"}


def read_class(text: str) -> str | None:
    """Return `benign` or `malignant` for `Benign`, `B`, ..., an empty string for an empty one, else None."""
    return CLASS_ALIASES.get(plain(text)) if text else ""


def read_subtype(text: str) -> str | None:
    """Return the code for `Ductal Carcinoma`, `ductal_carcinoma`, `DC`, an empty string for an empty one, else None."""
    return TYPE_ALIASES.get(plain(text)) if text else ""


def read_magnification(text: str) -> str | None:
    """Return `40` for `40X`, `40x`, `40` or `40.0`, an empty string for an empty one, else None."""
    found = re.fullmatch(r"([1-9]\d{0,3})(\.0+)?\s*[xX]?", text)
    return found[1] if found else (None if text else "")
