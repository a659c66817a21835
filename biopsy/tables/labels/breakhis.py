"""BreakHis: the grammar of its file names (Spanhol et al., IEEE TBME 63(7), 2016).

SOB_{B|M}_{A|F|PT|TA|DC|LC|MC|PC}-{year}-{slide}-{magnification}-{seq}.png      SOB_M_DC-14-10926-100-003.png
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from biopsy.tables.labels.grammars import Grammar, register

# code: (class, name in words), as in conf/labels/breakhis.yaml
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
MAGNIFICATIONS = (40, 100, 200, 400)

NAME = re.compile(rf"SOB_([BM])_({'|'.join(TYPES)})-([0-9]{{2}})-([0-9]+[A-Z]*)-(40|100|200|400)-([0-9]+)")


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
    label = TYPES[subtype][0]
    if initial.lower() != label[0]:
        return None
    return Name(label, subtype, int(year), slide, case_of(slide), int(magnification), int(seq))


def case_of(slide: str) -> str:
    """Return the case of a BreakHis slide, its number: `22549AB` and `22549CD` are of case `22549`.

    That a shared number means one patient is likely and not confirmed.
    """
    return slide.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def facts(path: str) -> dict[str, str] | None:
    """Return what a file name says, as `Grammar.parse` wants it."""
    name = parse(path)
    if name is None:
        return None
    return {
        "binary": name.label, "multiclass": name.subtype, "magnification": str(name.magnification),
        "slide": name.slide, "case": name.case,
    }  # fmt: skip


register(Grammar("breakhis", facts, "BreakHis's file names: class, tumour type, slide, magnification."))
