"""Claim: resizing is at least 1.8 times as fast as the report's way, and takes at most twice as long as decoding alone.

    python benchmarks/resize.py <folder>        real images, any PNGs below it
    python benchmarks/resize.py                 drawn ones, written to a temporary folder

Three ways, each through a pool of as many threads as cores, in rounds that alternate so that a busy machine slows all
of them alike; the ratios are medians over the rounds.

    report   Pillow: open, resize to 256x256 (bicubic), save as PNG level 6
    ours     the stage: read, compare the pixels with the table, resize, encode, write, hash, journal
    floor    decode with OpenCV, and nothing else
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.resized_tree import resize_all

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


def floor(files: list[Path], out: Path) -> None:
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


def seconds(work: Callable[[Path], None]) -> tuple[float, float, float]:
    """Return the seconds that `work` takes, its CPU seconds, and the mean KB of the files it made in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), time.process_time()
        work(Path(folder))
        taken, cpu = time.perf_counter() - start, time.process_time() - cpu
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.png")]
    return taken, cpu, statistics.fmean(sizes) / 1000 if sizes else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="PNG images, in any folders below")
    parser.add_argument("--images", type=int, default=300, help="at most so many")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as drawn:
        folder = chosen.folder or Path(drawn)
        if not chosen.folder:
            draw(folder, chosen.images)
        files = sorted(folder.rglob("*.png"))[: chosen.images]
        compare(files, folder, chosen.rounds)


def compare(files: list[Path], folder: Path, rounds: int) -> None:
    """Time all ways in alternating rounds and print them with their ratios."""
    table = pd.DataFrame({"path": [str(path.relative_to(folder)) for path in files]})
    table["image_id"] = [path.stem for path in files]
    table["pixels_sha256"] = [hash_pixels(read_rgb(path, MAX_PIXELS)) for path in files]  # also fills the disk cache
    ways: dict[str, Callable[[Path], None]] = {
        "report": lambda out: report(files, out),
        "ours": lambda out: ours(table, folder, out),
        "floor": lambda out: floor(files, out),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    weight = {}
    for _ in range(rounds):
        for way, work in ways.items():
            wall, processor, weight[way] = seconds(work)
            taken[way].append(wall)
            cpu[way].append(processor)
    print(f"\n{len(files)} images, {os.cpu_count()} threads, {rounds} rounds\n")
    print(f"{'way':8}{'images/s':>10}{'CPU ms an image':>17}{'KB a file':>11}{'x the report':>14}{'x the floor':>13}")
    for way, spent in taken.items():
        speed, work_ms = len(files) / statistics.median(spent), statistics.median(cpu[way]) / len(files) * 1000
        to_report, to_floor = ratio(taken["report"], spent), ratio(taken["floor"], spent)
        print(f"{way:8}{speed:10.0f}{work_ms:17.1f}{weight[way]:11.0f}{to_report:13.2f}x{to_floor:12.2f}x")
    for name, times in (("wall", taken), ("CPU", cpu)):
        gain, cost = ratio(times["report"], times["ours"]), ratio(times["ours"], times["floor"])
        print(
            f"{name + ' time:':10} {gain:.2f}x as fast as the report's (goal >= 1.8), {cost:.2f}x the floor (goal <= 2)"
        )


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median over the rounds of one time divided by the other of the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
