"""Test slides of published comparisons on BreakHis, so that our figures can be read beside theirs.

Both call their slides patients. Six of the 16 and four of the 14 share a case number with a slide that they train on.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what prints results needs no pandas
    import pandas as pd


@dataclass(frozen=True)
class Published:
    """One comparison.

    Attributes
    ----------
    slides
        The test slides, as file names begin.
    what
        What they are, for a table of results.
    source
        Repository, file and commit.
    images
        How many images of these slides BreakHis has, of all magnifications.
    """

    slides: frozenset[str]
    what: str
    source: str
    images: int


def _slides(lines: str) -> frozenset[str]:
    """Read lines of a class and its slides, all of 2014: `B_F 21998CD 23060CD`."""
    named = [line.split() for line in lines.strip().splitlines()]
    return frozenset(f"SOB_{kind}-14-{slide}" for kind, *slides in named for slide in slides)


PUBLISHED = {
    "audit": Published(
        _slides("""
            B_A 22549CD
            B_F 21998CD 23060CD
            B_TA 16184
            M_DC 12312 14926 16188 16336 17614 20636 2523 2985
            M_LC 15570C
            M_MC 16456 19979C
            M_PC 9146
        """),
        "the 16 test slides of Breakhis-patient-level-audit",
        # Under `test_patients`; all magnifications, the other 66 slides in five folds of training and validation.
        "github.com/Debcode2006/Breakhis-patient-level-audit, splits/breakhis_splits.json, seed 42",
        1653,
    ),
    "eva": Published(
        _slides("""
            B_F 21998CD 21998EF 23060CD
            B_TA 15275 16184CD
            M_DC 15792 16716 16875 2773 3909 5287 5695
            M_MC 18842D 19979
        """),
        "the 14 validation slides of eva (which it scores at 40X)",
        # `_val_patient_ids`; eva scores them at 40X and trains on the other slides of these four classes alone.
        "github.com/kaiko-ai/eva, src/eva/vision/data/datasets/classification/breakhis.py, version 0.4.5",
        1324,
    ),
}


def test_set_here(protocol: str, split: "pd.DataFrame", fold_table: "pd.DataFrame | None") -> str:
    """Say in a clause which share of a public test set is here; empty where that is all of it, or there is none."""
    whole, whose = 0, "the published"
    if protocol in PUBLISHED:
        whole = PUBLISHED[protocol].images
    elif protocol == "fold1" and fold_table is not None:
        whole, whose = int((fold_table["split"] == "test").sum()), "the fold table's"
    here = int((split["part"] == "test").sum()) if whole else 0
    return f"; {here:,} of {whose} {whole:,} test images are here" if here < whole else ""
