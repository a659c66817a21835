"""Claim: resizing is 2.5 times as fast as the report's way, and takes at most 1.3 times as long as decoding alone.

    python benchmarks/resize.py <folder>        real images, any PNGs below it
    python benchmarks/resize.py                 drawn ones, written to a temporary folder

Three ways, each through a pool of as many threads as cores, in rounds that alternate so that a busy machine slows all
of them alike; the ratios are medians over the rounds.

    report   Pillow: open, resize to 256x256 (bicubic), save as PNG level 6
    ours     the stage: read, compare the pixels with the table, resize, encode, write, hash, journal
    floor    decode with OpenCV, and nothing else
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.resized_tree import resize_all
from measure import Row, options, parse, peak_mb, ratio, rounds, tell

MAX_PIXELS = 50_000_000


def draw(folder: Path, images: int) -> None:
    """Write PNGs of 700x460 that weigh about what BreakHis images weigh (450 KB)."""
    rng = np.random.default_rng(0)
    for number in range(images):
        coarse = Image.fromarray(rng.integers(90, 250, (24, 36, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((700, 460), Image.Resampling.BICUBIC), float)
        noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:04}.png")


def report(files: list[Path], out: Path) -> None:
    """The report's way (its notebook: Pillow's defaults in a thread pool, one flat folder)."""

    def one(path: Path) -> None:
        with Image.open(path) as image:
            image.resize((256, 256)).save(out / path.name)

    _all(one, files)


def floor(files: list[Path]) -> None:
    """Decode only."""
    _all(lambda path: cv2.imread(str(path)), files)


def ours(table: pd.DataFrame, images: Path, out: Path) -> None:
    """The stage's whole work."""
    counts = resize_all(table, images, out / "resized", out / "resume", Preparation(max_pixels=MAX_PIXELS))
    if counts["made"] != len(table):
        raise RuntimeError(f"{counts['made']} of {len(table)} were made: the timing would lie")


def _all(work: Callable[[Path], object], files: list[Path]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(work, files):
            pass


def seconds(work: Callable[[Path], None]) -> float:
    """Return the seconds that `work` takes in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        work(Path(folder))
        return time.perf_counter() - start


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="PNG images, in any folders below")
    parser.add_argument("--images", type=int, default=300, help="at most so many")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parse(parser, rounds=3, images=150)
    with tempfile.TemporaryDirectory() as drawn:
        folder = chosen.folder or Path(drawn)
        if not chosen.folder:
            draw(folder, chosen.images)
        files = sorted(folder.rglob("*.png"))[: chosen.images]
        compare(files, folder, chosen.rounds)


def compare(files: list[Path], folder: Path, count: int) -> None:
    """Time all ways in alternating rounds and tell their ratios."""
    table = pd.DataFrame({"path": [str(path.relative_to(folder)) for path in files]})
    table["image_id"] = [path.stem for path in files]
    table["pixels_sha256"] = [hash_pixels(read_rgb(path, MAX_PIXELS)) for path in files]  # also fills the disk cache
    ways: dict[str, Callable[[Path], None]] = {
        "report": lambda out: report(files, out),
        "ours": lambda out: ours(table, folder, out),
        "floor": lambda _: floor(files),
    }
    taken = rounds({way: partial(seconds, work) for way, work in ways.items()}, count)
    rate = {way: len(files) / statistics.median(spent) for way, spent in taken.items()}
    for peer, way, goal in (("report", "report", ">=2.5"), ("decoding", "floor", ">=0.77")):
        times = ratio(taken[way], taken["ours"])
        tell(Row("resize", rate["ours"], "/s", peer, rate[way], times, goal, peak_mb()))


if __name__ == "__main__":
    main()
