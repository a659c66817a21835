"""Claim: a slide needs the same memory whatever its size, and most of the time goes into the model, not into reading.

    python benchmarks/slides.py exports/binary-case.onnx                        20,000 and 100,000 pixels wide
    python benchmarks/slides.py exports/binary-case.onnx --sides 5000 20000

For each size the script writes a pyramid of JPEG tiles (glass, and in its middle a disk of noise in the colours of
haematoxylin and eosin) and runs, each in a process of its own:

    decoding   read the tiles with tissue at the size that the model takes, and nothing else
    predict    `biopsy predict`: overview, tiles, model, table, regions, heat map as a picture and as a pyramid

Memory is the kernel's high-water mark of the process (VmHWM, Linux). All sizes have the same tissue, so that what grows
is the slide; --radius makes the tissue grow.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from measure import Row, options, parse, tell

TILE = 256
UM = 0.25
GLASS = (243, 241, 243)
RUN = """
import sys, time
from pathlib import Path
from biopsy.serving.model import Model
from biopsy.images.slides.reader import open_slide
from biopsy.serving.slides.run import Options, predict_slides
from biopsy.serving.slides.scale import plan
from biopsy.images.slides.tissue import cut, look_over

way, overlap, slide, model, out = sys.argv[1], float(sys.argv[2]), *map(Path, sys.argv[3:])
if way == "decoding":
    opened = open_slide(slide)
    plan_of = plan(opened, Model(model).card, None, None, None, overlap)
    tiles = list(cut(opened, look_over(opened), plan_of))
    start = time.perf_counter()
    for tile in tiles:
        opened.region(tile.x, tile.y, tile.width, tile.height, plan_of.size)
else:
    start = time.perf_counter()
    predict_slides([slide], Options(model, out, overlap=overlap))
taken = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print("RESULT", taken, peak, len(tiles) if way == "decoding" else 0)
"""


def encoded(colours: list[tuple[int, int, int]], seed: int, noise: float = 4) -> bytes:
    """Encode a tile of coarse noise between colours."""
    rng = np.random.default_rng(seed)
    coarse = np.asarray(colours, np.float32)[rng.integers(0, len(colours), (32, 32))]
    fine = cv2.resize(coarse, (TILE, TILE), interpolation=cv2.INTER_CUBIC) + rng.normal(0, noise, (TILE, TILE, 3))
    pixels = np.clip(fine, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def write_slide(path: Path, side: int, radius: int) -> None:
    """Write a pyramid, a tile at a time."""
    glass = encoded([GLASS], 0, 1)
    tissue = [encoded([(200, 120, 170), (110, 70, 150), (235, 190, 215)], seed) for seed in range(16)]

    def tiles(level_side: int, shrink: int) -> Iterator[bytes]:
        count = -(-level_side // TILE)
        for row in range(count):
            for column in range(count):
                y, x = ((place + 0.5) * TILE * shrink - side / 2 for place in (row, column))
                yield tissue[(row * 7 + column) % 16] if x * x + y * y < radius * radius else glass

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        shrink = 1
        while side // shrink > 2 * TILE or shrink == 1:
            level = side // shrink
            file.write(
                tiles(level, shrink), shape=(level, level, 3), dtype=np.uint8, tile=(TILE, TILE), compression="deflate",
                photometric="rgb", subfiletype=int(shrink > 1), metadata=None,
                resolution=(1e4 / UM, 1e4 / UM), resolutionunit="CENTIMETER",
            )  # fmt: skip
            shrink *= 4
    with tifffile.TiffFile(path, mode="r+") as written:  # tifffile does not write that it is JPEG without imagecodecs
        pages: Any = written.pages
        for page in pages:
            page.tags["Compression"].overwrite(tifffile.COMPRESSION.JPEG)
            page.tags["PhotometricInterpretation"].overwrite(tifffile.PHOTOMETRIC.YCBCR)


def measure(way: str, slide: Path, chosen: Any, out: Path) -> tuple[float, float, int]:
    """Return seconds, the peak of memory in MB, and the tiles (0 of `predict`)."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, way, str(chosen.overlap), str(slide), str(chosen.model), str(out)],
        capture_output=True,
        text=True,
    )
    line = [line.split() for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not line:
        raise RuntimeError(done.stderr)
    return float(line[0][1]), int(line[0][2]) / 1000, int(line[0][3])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", type=Path, help="an .onnx file")
    parser.add_argument("--sides", type=int, nargs="+", default=[20_000, 100_000], help="pixels at full resolution")
    parser.add_argument("--radius", type=int, default=5_000, help="of the tissue, in pixels")
    parser.add_argument("--overlap", type=float, default=0, help="of the tiles")
    chosen = parse(parser, sides=[10_000, 20_000])
    first = None
    for side in chosen.sides:
        with tempfile.TemporaryDirectory() as folder:
            slide = Path(folder) / "slide.tif"
            write_slide(slide, side, chosen.radius)
            decoding, _, tiles = measure("decoding", slide, chosen, Path(folder))
            predicted, peak, _ = measure("predict", slide, chosen, Path(folder) / "out")
        what, ours, other = f"{side:,}-px slide", tiles / predicted, tiles / decoding
        tell(Row(what, ours, "/s", "decoding", other, ours / other, "", peak))
        if first:
            tell(Row("its memory", peak, "MB", f"{chosen.sides[0]:,}-px slide", first, goal=f"<={1.05 * first:.0f}"))
        first = first or peak


if __name__ == "__main__":
    main()
