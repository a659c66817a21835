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
from biopsy.core.layout import ORIGINALS, SPLITS
from biopsy.core.text import count
from biopsy.evaluation.report.groups import thumbnail
from biopsy.evaluation.report.results import Result
from biopsy.images.decode import read_rgb

SIDE = 32  # pixels of the grey picture that is compared
BITS = 10  # of 63 that may differ: of all pairs of 421 BreakHis images, however turned, none differs in fewer than 10
ALIKE = 0.9  # least correlation of two grey pictures, so that no chance of the bits counts; those pairs have less
BLANK = 4.0  # grey levels of spread, below which a picture shows nothing to compare
CELLS = 4_000_000  # pairs in memory at once
SHOWN = 4  # pairs shown as pictures
FEWEST = 20  # images, of fewer nothing usual is known
FENCE = 3.0  # quartile distances below the first quartile: Tukey's "far out"

Greys = NDArray[np.float32]
Pair = tuple[str, str]


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
    files = [root / ORIGINALS / path for path in labels["path"]]
    with ThreadPool() as pool:
        shrunk = pool.imap(lambda path: shrink(path, max_pixels), files)
        greys = list(tqdm(shrunk, "near-copies", len(files), unit="image", delay=2))
    ids = labels["image_id"].to_list()
    pairs = [(ids[i], ids[j]) for i, j in near_copies(greys)]
    compared = sum(grey is not None for grey in greys)
    where = Places(labels, root, protocols)
    return {
        "says": [
            f"{count(len(pairs), 'pair')} of near-copies among {count(compared, 'image')} that were compared.",
            *where.says(pairs),
        ],
        **where.shown([pair for pair in pairs if where.told(pair)], max_pixels),
    }


class Places:
    """The parts and the cases that images belong to.

    Parameters
    ----------
    labels, root, protocols
        As for `copies`.
    """

    def __init__(self, labels: pd.DataFrame, root: Path, protocols: Sequence[str]) -> None:
        files = [root / ORIGINALS / path for path in labels["path"]]
        self.files = dict(zip(labels["image_id"], files, strict=True))
        known = labels["case"] if "case" in labels else [""] * len(labels)
        self.cases = dict(zip(labels["image_id"], known, strict=True))
        sides = {name: sides_of(root / SPLITS / f"{name}.csv") for name in protocols}
        self.sides = {name: found for name, found in sides.items() if found is not None}

    def apart(self, pair: Pair) -> bool:
        """Say whether two images are of two cases."""
        return self.cases.get(pair[0], "") != self.cases.get(pair[1], "")

    def torn(self, pair: Pair) -> list[str]:
        """Name the protocols that put two images into two parts."""
        one, two = pair
        return [n for n, side in self.sides.items() if one in side and two in side and side[one] != side[two]]

    def told(self, pair: Pair) -> str:
        """Say what is wrong with the places of two images; empty where nothing is."""
        torn, cases = self.torn(pair), [self.cases.get(name, "") or "not known" for name in pair]
        parts = [f"in two parts of {', '.join(torn)}"] * bool(torn)
        return "; ".join(parts + [f"cases {cases[0]} and {cases[1]}"] * self.apart(pair))

    def says(self, pairs: Sequence[Pair]) -> list[str]:
        """Count the pairs that no split should have, in sentences."""
        torn = [self.torn(pair) for pair in pairs]
        says = [
            f"Protocol {name}: {count(sum(name in found for found in torn), 'pair')} in two parts."
            for name in self.sides
        ]
        if apart := sum(map(self.apart, pairs)):
            says.append(
                f"{count(apart, 'pair')} under two cases: one of the cases may be wrong, and then no split by case "
                "keeps them together."
            )
        return says

    def shown(self, pairs: Sequence[Pair], max_pixels: int) -> dict[str, Any]:
        """Show the first pairs as pictures, those under two cases before those in two parts."""
        order = sorted(pairs, key=lambda pair: (not self.apart(pair), not self.torn(pair)))
        found = [
            {"images": [(name, thumbnail(self.files[name], max_pixels)) for name in pair], "where": self.told(pair)}
            for pair in order[:SHOWN]
        ]
        return {"pairs": found, "more": max(0, len(order) - SHOWN)}


def alike(result: Result, labels: pd.DataFrame, max_pixels: int) -> dict[str, Any]:
    """Look for near-copies among the images whose features were measured: a crop, or a field taken twice.

    Two images count where the angle between their features is far below that between an image and the nearest of
    another case: below its first quartile by three quartile distances, of the logarithms (Tukey, 1977).

    Parameters
    ----------
    result
        How the images look, `nearest_images` included.
    labels, max_pixels
        As for `copies`.

    Returns
    -------
    dict
        As `copies`.
    """
    table = result.appearance
    usual = np.empty(0)
    if table is not None and {"nearest", "distance", "elsewhere"} <= set(table):
        usual = table["elsewhere"].to_numpy()
        usual = usual[usual > 0]
    if table is None or len(usual) < FEWEST:
        return {"says": ["Not looked for: the features of 20 images of several cases are not known."], "pairs": []}
    low, high = np.quantile(np.log(usual), (0.25, 0.75))
    near = table[table["distance"] < np.exp(low - FENCE * (high - low))].sort_values("distance", kind="stable")
    both = zip(near["image_id"], near["nearest"], strict=True)
    known = set(labels["image_id"])
    pairs = [pair for pair in dict.fromkeys(tuple(sorted(pair)) for pair in both) if known.issuperset(pair)]
    where = Places(labels, result.job.root, [result.job.protocol])
    return {
        "says": [
            f"{count(len(pairs), 'pair')} among {count(int(table['distance'].notna().sum()), 'image')} whose features "
            "were compared.",
            *where.says(pairs),
        ],
        **where.shown(pairs, max_pixels),
    }
