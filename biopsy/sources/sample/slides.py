"""Draw the sample's table of slides: invented facts, learnable, noisy, some missing. Synthetic like its images.

Slides of one case share the facts about the patient; the others are the slide's own. Benign and malignant differ in the
means of the numbers and the odds of the words; `side` carries no information, so that a model can learn to ignore it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from biopsy.tables.labels.breakhis import TYPES, case_of

MISSING = 0.15  # of the cells


def draw_slides(slides: Sequence[tuple[str, str]], seed: int) -> pd.DataFrame:
    """Draw one row per slide.

    Parameters
    ----------
    slides
        (subtype, slide) pairs. A slide's row depends on them and on `seed` alone, not on the other slides.
    seed
        0 or more.

    Returns
    -------
    DataFrame
        `slide`, `age` (years), `diameter_mm`, `density` (a to d), `family_history` (yes, no), `side` (left, right); an
        empty cell where a fact is missing.
    """
    return pd.DataFrame([_row(subtype, slide, seed) for subtype, slide in slides])


def _row(subtype: str, slide: str, seed: int) -> dict[str, str]:
    patient = np.random.default_rng([seed, 3, int(case_of(slide))])
    own = np.random.default_rng([seed, 4, *slide.encode()])
    malignant = TYPES[subtype][0] == "malignant"
    row = {
        "age": f"{patient.normal(58 if malignant else 42, 11):.0f}",
        "diameter_mm": f"{own.lognormal(3.1 if malignant else 2.7, 0.45):.1f}",
        "density": str(
            patient.choice(list("abcd"), p=[0.15, 0.25, 0.35, 0.25] if malignant else [0.3, 0.3, 0.25, 0.15])
        ),
        "family_history": "yes" if patient.random() < (0.4 if malignant else 0.2) else "no",
        "side": str(patient.choice(["left", "right"])),
    }
    return {"slide": slide} | {name: "" if own.random() < MISSING else value for name, value in row.items()}
