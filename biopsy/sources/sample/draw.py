"""Draw the embedded sample: synthetic H&E-like images in BreakHis's tree, with its naming and a CSV like the course's.

Cartoons, not tissue. Each type has its own architecture, so that a small network can learn it; malignant nuclei are
larger, darker, denser and less alike; every slide has a stain of its own, which an image-level split leaks. Case
numbers start at 90001, where BreakHis has none.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, pairwise
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from biopsy.core.errors import ParamsError
from biopsy.sources.sample.tissue import (
    BENIGN,
    MALIGNANT,
    SPINDLE,
    STROMA,
    Canvas,
    adenosis,
    draw_stroma,
    ductal_carcinoma,
    fibroadenoma,
    lobular_carcinoma,
    mucinous_carcinoma,
    noise,
    papillary_carcinoma,
    phyllodes_tumor,
    stain,
    tubular_adenoma,
)
from biopsy.tables.labels.breakhis import MAGNIFICATIONS, TYPES, case_of

Array = NDArray[np.floating]
HEADER = "path_to_image,Benign or Malignant,Cancer Type,Magnification"
# As in the course CSV, the last row of these types stops after so many cells (1: the path, 2: the class).
SHORT_ROWS = {"F": 1, "LC": 1, "MC": 2}
NO_SLIDE = "89999"  # neither in a sample nor in BreakHis


@dataclass(frozen=True)
class Tumour:
    """How a type is drawn, and its share of the sample."""

    draw: Callable[[Canvas], None]
    cases: int
    share: float  # of the images: about as in BreakHis, but ductal carcinoma has nearly half of them there
    stroma: float  # spacing of the spindle nuclei


TUMOURS = {
    "A": Tumour(adenosis, 5, 0.09, 15),
    "F": Tumour(fibroadenoma, 6, 0.13, 15),
    "PT": Tumour(phyllodes_tumor, 5, 0.08, 9),
    "TA": Tumour(tubular_adenoma, 5, 0.09, 15),
    "DC": Tumour(ductal_carcinoma, 8, 0.26, 15),
    "LC": Tumour(lobular_carcinoma, 6, 0.11, 15),
    "MC": Tumour(mucinous_carcinoma, 6, 0.13, 15),
    "PC": Tumour(papillary_carcinoma, 6, 0.11, 15),
}


@dataclass(frozen=True)
class Image:
    """What one image shows, and its place in the tree."""

    index: int
    subtype: str
    slide: str
    magnification: int
    seq: int

    @property
    def path(self) -> str:
        """Path as in the course CSV: posix, relative to the image folder."""
        label, name = TYPES[self.subtype]
        start = f"SOB_{label[0].upper()}_{self.subtype}"
        folders = f"{label}/SOB/{name.replace(' ', '_')}/{start}_14-{self.slide}/{self.magnification}X"
        file = f"{start}-14-{self.slide}-{self.magnification}-{self.seq:03d}.png"
        return f"BreaKHis_v1/histology_slides/breast/{folders}/{file}"

    @property
    def row(self) -> list[str]:
        """The cells of the course CSV."""
        label, name = TYPES[self.subtype]
        return [self.path, label.capitalize(), name.title(), f"{self.magnification}X"]


def draw_sample(folder: Path, images: int = 360, width: int = 220, height: int = 144, seed: int = 0) -> dict[str, Any]:
    """Draw the sample into `folder`: metadata.csv and images/BreaKHis_v1/...

    The same arguments give the same bytes: each image draws from its own generator, seeded by (seed, image index).

    Parameters
    ----------
    folder
        Where to write. Files of the same names are replaced.
    images
        How many PNG files to write, one of which repeats another's pixels under another sequence number. At least 48,
        so that every type has five cases.
    width, height
        Pixels of each image. The field of view stays, so that larger images show more detail.
    seed
        0 or more.

    Returns
    -------
    dict
        Counts of `images`, `slides`, `cases`, `duplicates` and `short_rows`.

    Raises
    ------
    ParamsError
        Fewer than 48 images.
    """
    if images < 48:
        raise ParamsError(f"data.sample.images is {images}. Eight types of five cases need at least 48.")
    plan = _plan(images)

    def draw(image: Image) -> None:
        pixels = _paint(image, width, height, seed)
        path = folder / "images" / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        # The duplicate is packed otherwise: as in BreakHis, only a hash of the decoded pixels finds it.
        level = 9 if image is plan[-1] else 1
        path.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes())

    with ThreadPool(2) as pool:  # with more, Python's lock lets none of them go faster
        for _ in tqdm(pool.imap(draw, plan), "draw", len(plan), unit="image", delay=2):
            pass
    (folder / "metadata.csv").write_text("\n".join([HEADER, *_rows(plan)]) + "\n", "utf-8")
    return {
        "images": len(plan),
        "slides": len({image.slide for image in plan}),
        "cases": len({case_of(image.slide) for image in plan}),
        "duplicates": 1,
        "short_rows": len(SHORT_ROWS),
    }


def draw_one(subtype: str, width: int, height: int) -> NDArray[np.uint8]:
    """Draw one image of a type of `TUMOURS`, BGR uint8 (height, width, 3), of a slide outside all samples."""
    return _paint(Image(len(TUMOURS), subtype, NO_SLIDE, 100, 1), width, height, 0)


def slides_of(images: int) -> list[tuple[str, str]]:
    """List the (subtype, slide) pairs of a sample of so many images, in order, each once."""
    return sorted({(image.subtype, image.slide) for image in _plan(images)})


def _slides() -> Iterator[tuple[str, list[str]]]:
    """Yield each type with its slides: first five slides of five cases, then a second slide of the first case."""
    case = count(90001)
    for subtype, tumour in TUMOURS.items():
        slides = [f"{next(case)}{suffix}" for suffix in ("AB", "", "C", "", "EF", "D", "", "")[: tumour.cases]]
        yield subtype, [*slides[:5], case_of(slides[0]) + "CD", *slides[5:]]


def _plan(images: int) -> list[Image]:
    """Say what each image shows: slides of a type in turn, magnifications in turn; the duplicate comes last."""
    spare = images - 1 - 5 * len(TUMOURS)
    edges = np.round(np.cumsum([0, *(tumour.share for tumour in TUMOURS.values())]) * spare).astype(int).tolist()
    plan: list[Image] = []
    for (subtype, slides), (low, high) in zip(_slides(), pairwise(edges), strict=True):
        seqs: Counter[tuple[str, int]] = Counter()
        for i in range(5 + high - low):
            turn, at = divmod(i, len(slides))
            place = slides[at], MAGNIFICATIONS[(turn + at) % 4]
            seqs[place] += 1
            plan.append(Image(len(plan), subtype, *place, seqs[place]))
    twin = next(image for image in plan if image.subtype == "DC")
    alike = [image for image in plan if (image.slide, image.magnification) == (twin.slide, twin.magnification)]
    return [*plan, replace(twin, seq=len(alike) + 1)]


def _rows(plan: list[Image]) -> list[str]:
    """Return the CSV's rows sorted by path, the short ones cut."""
    ordered = sorted(plan, key=lambda image: image.path)
    last = {image.subtype: image for image in ordered}
    rows = []
    for image in ordered:
        kept = SHORT_ROWS.get(image.subtype, 4) if image is last[image.subtype] else 4
        rows.append(",".join(image.row[:kept]) + ("," if kept < 4 else ""))
    return rows


def _paint(image: Image, width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Draw one image, BGR uint8 (height, width, 3)."""
    rng = np.random.default_rng([seed, 0, image.index])
    case = np.random.default_rng([seed, 1, int(case_of(image.slide))])
    slide = np.random.default_rng([seed, 2, *image.slide.encode()])
    tumour, cells = TUMOURS[image.subtype], MALIGNANT if TYPES[image.subtype][0] == "malignant" else BENIGN
    # Cases of one type differ in size, density and darkness of their nuclei: what a case-wise split has to bridge.
    size, density, dark = case.lognormal(0, [0.1, 0.08, 0.1]).tolist()
    unit = min(width / 220, height / 144) * (image.magnification / 100) ** 0.15  # milder than in life: all stay legible
    site = noise(rng, (height, width), 70 * unit)
    canvas = Canvas(
        np.full((height, width, 4), STROMA, np.uint8),
        unit,
        replace(cells, radius=cells.radius * size, spacing=cells.spacing * density, dark=cells.dark * dark),
        replace(SPINDLE, spacing=tumour.stroma * density * rng.lognormal(0, 0.15), dark=SPINDLE.dark * dark),
        rng.uniform(0, np.pi),
        rng,
        site >= np.quantile(site, max(0, rng.uniform(-0.4, 0.25))),
    )
    draw_stroma(canvas)
    tumour.draw(canvas)
    return stain(canvas, slide)
