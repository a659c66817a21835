"""Which images a model has learnt from: what it says of one of them tells nothing of how it does on new ones."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from biopsy.core.errors import BiopsyError
from biopsy.core.files import sha256
from biopsy.core.job import Job
from biopsy.core.layout import project_of
from biopsy.core.protocol import Fold
from biopsy.networks.model_file import Card

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 8  # bytes of a hash that are kept: of 10^13 new images, one is taken for one of a million known ones


def learnt_from(card: Card, folder: Path) -> frozenset[bytes] | None:
    """Look up the training and validation images of a model in its project's tables.

    Parameters
    ----------
    card, folder
        Of the model in its project: see `project_of`.

    Returns
    -------
    frozenset of bytes
        The first `WIDTH` bytes of the hash of each image's pixels (`hash_pixels`); None where the project's
        tables are not those that the model was trained with.
    """
    try:
        found = table_of(card, folder)
    except BiopsyError:  # tables of another version
        return None
    if found is None or "pixels_sha256" not in found[0]:
        return None
    table = found[0]
    return frozenset(pixel_key(pixels) for pixels in table["pixels_sha256"][table["part"] != "test"] if pixels) or None


def table_of(card: Card, folder: Path) -> tuple["pd.DataFrame", Path] | None:
    """Read the parts of a model's images.

    Parameters
    ----------
    card, folder
        As for `learnt_from`.

    Returns
    -------
    (DataFrame, Path) or None
        What `read_parts` gives, and the project's folder; None where its tables are not the model's.

    Raises
    ------
    DataError
        The tables are of another version.
    """
    root = project_of(folder)
    fold = Fold(*map(int, card.fold.split("-"))) if card.fold else None
    job = Job(card.task, card.protocol, root=root, fold=fold)
    for what, path in (("labels", job.labels), ("split", job.split)):
        if what not in card.data or not path.is_file() or sha256(path) != card.data[what]:
            return None
    from biopsy.tables.split.parts import read_parts  # pandas: a second

    return read_parts(job.labels, job.split, root, card.task, card.classes, fold), root


def pixel_key(pixels: str) -> bytes:
    """Shorten a hash, 64 hexadecimal digits, to what is kept of it."""
    return bytes.fromhex(pixels)[:WIDTH]


def packed(known: frozenset[bytes] | None) -> str:
    """Write keys as text, for the metadata of an exported file, whose hash covers them; equal sets give equal text."""
    return base64.b64encode(b"".join(sorted(known or ()))).decode()


def unpacked(text: str) -> frozenset[bytes] | None:
    """Read what `packed` wrote; None where nothing was known."""
    content = base64.b64decode(text)
    return frozenset(content[i : i + WIDTH] for i in range(0, len(content), WIDTH)) or None
