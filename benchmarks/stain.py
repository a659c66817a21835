"""Claim: Macenko's normalisation is 1.5 times as fast as torchstain, for the same pixels.

    python benchmarks/stain.py

Images of six tiles, drawn, on one thread. Ours tells tissue from glass, measures the stain and applies the target's.
torchstain does the last two, and measures each image again to apply.
"""

import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from biopsy.images.stain import measure, normalise
from measure import Row, options, parse, peak_mb, ratio, rounds, tell

STAINS = np.array([[0.65, 0.70, 0.29], [0.27, 0.85, 0.45]])  # optical density of haematoxylin and eosin


def draw(seed: int, side: int = 224, tiles: int = 6) -> NDArray[np.uint8]:
    """Draw (tiles x side, side, 3) pixels of two stains in random amounts."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2, 0.3, (tiles * side, side, 2)) + 0.2
    return (255 * np.exp(-amounts @ STAINS)).astype(np.uint8)


def rate(work: Callable[[NDArray[np.uint8]], object], images: list[NDArray[np.uint8]]) -> float:
    """Return the images a second."""
    start = time.perf_counter()
    for image in images:
        work(image)
    return len(images) / (time.perf_counter() - start)


def main() -> None:
    parse(options(__doc__))
    cv2.setNumThreads(1)
    images, target = [draw(seed) for seed in range(8)], draw(99)
    wanted, theirs = measure(target, "macenko"), NumpyMacenkoNormalizer()
    theirs.fit(target)
    with threadpool_limits(1):
        found = rounds(
            {
                "ours": lambda: rate(lambda image: normalise(image, wanted), images),
                "torchstain": lambda: rate(lambda image: theirs.normalize(image, stains=False), images),
            },
            5,
        )
    ours, other = (float(np.median(found[name])) for name in ("ours", "torchstain"))
    tell(Row("macenko, one core", ours, peer="torchstain", other=other, ratio=ratio(found["ours"], found["torchstain"]),
             goal=">=1.5", peak_mb=peak_mb()))  # fmt: skip


if __name__ == "__main__":
    main()
