"""Near-copies: pictures that are almost the same though their pixels differ, and whether two parts hold them.

`ingest` finds equal pixels. A copy that was saved again, brightened, made smaller, turned or mirrored escapes it, and a
model that has seen one in training needs no skill for the other.
"""

from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from biopsy.core.errors import BiopsyError
from biopsy.core.files import read_csv
from biopsy.evaluation.report.groups import thumbnail
from biopsy.evaluation.report.words import count
from biopsy.images.decode import read_rgb

SIDE = 32  # pixels of the grey picture that is compared
BITS = 10  # of 63 that may differ: of all pairs of 421 BreakHis images, however turned, none differs in fewer than 10
ALIKE = 0.9  # least correlation of two grey pictures, so that no chance of the bits counts; those pairs have less
BLANK = 4.0  # grey levels of spread, below which a picture shows nothing to compare
CELLS = 4_000_000  # pairs in memory at once
SHOWN = 4  # pairs shown as pictures

Greys = NDArray[np.float32]


def shrink(path: Path, max_pixels: int) -> Greys | None:
    """Return a picture in grey, (32, 32); None where it cannot be read."""
    try:
        grey = cv2.cvtColor(read_rgb(path, max_pixels), cv2.COLOR_RGB2GRAY)
    except BiopsyError:
        return None
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def perceptual_hash(grey: Greys) -> np.uint64:
    """Return 63 bits: which of the 8 x 8 lowest frequencies (DCT), without the mean, are above their median."""
    waves = cv2.dct(grey)[:8, :8].ravel()[1:]
    bits = np.append(waves > np.median(waves), False)
    return np.uint64(np.packbits(bits).view(np.uint64)[0])


def near_copies(greys: Sequence[Greys | None]) -> list[tuple[int, int]]:
    """List the pairs of near-copies among n grey pictures, the most alike first; None stands for no picture.

    The second of a pair may be turned by a quarter or mirrored.
    """
    shown = [i for i, grey in enumerate(greys) if grey is not None and grey.std() >= BLANK]
    if len(shown) < 2:
        return []
    pictures = np.stack([g for i in shown if (g := greys[i]) is not None])
    pictures -= pictures.mean((1, 2), keepdims=True)
    pictures /= pictures.std((1, 2), keepdims=True)
    hashes = np.array([perceptual_hash(picture) for picture in pictures])
    found: dict[tuple[int, int], float] = {}
    step = max(1, CELLS // len(shown))
    for view in _views(pictures):
        others = np.array([perceptual_hash(picture) for picture in view])
        for start in range(0, len(shown), step):
            differ = np.bitwise_count(hashes[start : start + step, None] ^ others[None])
            for i, j in np.argwhere(differ <= BITS) + np.array([start, 0]):
                alike = float((pictures[i] * view[j]).mean())
                if i < j and alike >= ALIKE:
                    pair = shown[i], shown[j]
                    found[pair] = max(alike, found.get(pair, 0.0))
    return sorted(found, key=lambda pair: (-round(found[pair], 6), pair))


def _views(pictures: Greys) -> Iterator[Greys]:
    """Yield n pictures, (n, 32, 32), in the eight positions that quarter turns and mirroring give."""
    for quarter in range(4):
        turned = np.rot90(pictures, quarter, (1, 2))
        yield from (np.ascontiguousarray(turned), np.ascontiguousarray(turned[..., ::-1]))


def sides_of(split: Path) -> pd.Series | None:
    """Return the part, or of a cross-validation the fold of the first repeat, by image_id; None: not known."""
    try:
        table = read_csv(split, ["image_id"])
    except BiopsyError:
        return None
    column = next((name for name in ("part", "repeat_1") if name in table), None)
    return None if column is None else table.set_index("image_id")[column].astype(str)


def copies(labels: pd.DataFrame, root: Path, protocols: Sequence[str], max_pixels: int) -> dict[str, Any]:
    """Look for near-copies among the images used, and say which stand in two parts.

    Parameters
    ----------
    labels
        n rows with `image_id`, `path`, `case`.
    root
        The project's folder, which holds the originals and the splits.
    protocols
        Whose parts are looked at.
    max_pixels
        Larger images are not opened.

    Returns
    -------
    dict
        `says`, sentences, and `pairs`, the most telling ones: `images`, two of (image_id, picture), and `where`, words.
    """
    files = [root / "data/raw/images" / path for path in labels["path"]]
    with ThreadPool() as pool:
        shrunk = pool.imap(lambda path: shrink(path, max_pixels), files)
        greys = list(tqdm(shrunk, "near-copies", len(files), unit="image", delay=2))
    pairs, ids = near_copies(greys), labels["image_id"].to_list()
    cases = labels["case"].to_list() if "case" in labels else [""] * len(ids)
    splits = {name: found for name in protocols if (found := sides_of(root / f"data/splits/{name}.csv")) is not None}
    torn = {
        (i, j): [n for n, s in splits.items() if ids[i] in s and ids[j] in s and s[ids[i]] != s[ids[j]]]
        for i, j in pairs
    }
    compared = sum(grey is not None for grey in greys)
    says = [f"{count(len(pairs), 'pair')} of near-copies among {count(compared, 'image')} that were compared."]
    says += [
        f"Protocol {name}: {count(sum(name in t for t in torn.values()), 'pair')} in two parts." for name in splits
    ]
    apart = {pair for pair in pairs if cases[pair[0]] != cases[pair[1]]}
    if apart:
        says.append(
            f"{count(len(apart), 'pair')} under two cases: one of the cases may be wrong, and then no split by case "
            "keeps them together."
        )
    told = sorted((pair for pair in pairs if torn[pair] or pair in apart), key=lambda pair: pair not in apart)
    return {
        "says": says,
        "pairs": [
            {
                "images": [(ids[k], thumbnail(files[k], max_pixels)) for k in pair],
                "where": "; ".join(
                    [f"in two parts of {', '.join(torn[pair])}"] * bool(torn[pair])
                    + [f"cases {cases[pair[0]] or 'not known'} and {cases[pair[1]] or 'not known'}"] * (pair in apart)
                ),
            }
            for pair in told[:SHOWN]
        ],
        "more": max(0, len(told) - SHOWN),
    }
