"""`validation.csv` of a model: its answers about the validation images before it also learnt from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biopsy.core.errors import DataError, SourceError
from biopsy.core.files import sha256, write_csv
from biopsy.networks.model_file import Card

VALIDATION = "validation.csv"


def write_validation(folder: Path, ids: Sequence[str], given: NDArray[np.float32]) -> str:
    """Store a model's answers about its validation images before it learns from them; return the file's SHA-256.

    Parameters
    ----------
    folder
        The model's.
    ids
        The n images.
    given
        (n, c), before the temperature.
    """
    write_csv(folder / VALIDATION, pd.DataFrame(given).add_prefix("p").assign(image_id=list(ids)))
    return sha256(folder / VALIDATION)


def read_validation(folder: Path, card: Card, ids: Sequence[str]) -> NDArray[np.float32] | None:
    """Read what `write_validation` wrote, (n, c); None if the model did not learn from its validation images.

    Raises
    ------
    SourceError
        The file is not the card's.
    DataError
        It is about other images.
    """
    if "validation" not in card.data:
        return None
    path = folder / VALIDATION
    if not path.is_file() or sha256(path) != card.data["validation"]:
        raise SourceError(f"{path} is not the file that model.json describes. Run `dvc checkout {folder}`.")
    table = pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False)
    if list(table.pop("image_id")) != list(ids):
        raise DataError(f"{path} is about other validation images than the split's. Make it again with `dvc repro`.")
    return table.to_numpy(np.float32)
