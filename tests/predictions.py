"""A table of predictions such as `evaluate` writes, of 12 cases with 4 images each."""

import numpy as np
import pandas as pd


def predictions(skill: float = 1.0, noise: int = 0, cases: int = 12) -> pd.DataFrame:
    """Half of the cases are malignant; `skill` 0 is guessing, `noise` seeds the errors."""
    case = np.repeat(np.arange(cases), 4)
    malignant = case >= cases // 2
    random = np.random.default_rng(noise)
    logits = skill * np.where(malignant, 1, -1) + random.normal(size=len(case))
    p = (1 / (1 + np.exp(-logits))).round(6)
    return pd.DataFrame(
        {
            "image_id": [f"i{i:03}" for i in range(len(case))],
            "slide": [f"s{c}" for c in case],
            "case": [f"c{c}" for c in case],
            "magnification": "40",
            "truth": np.where(malignant, "malignant", "benign"),
            "predicted": np.where(p >= 0.5, "malignant", "benign"),
            "p_benign": 1 - p,
            "p_malignant": p,
        }
    )
