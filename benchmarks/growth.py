"""Claim: no stage but train takes more than 1.5 GB of memory, and an image costs the same time at 300,000 as at 300.

    python benchmarks/growth.py                                  300 to 300,000 images, 20 minutes, 8 GB of disk
    python benchmarks/growth.py --images 300000                  one size

Each stage and `biopsy predict` run in a process of its own on a scratch project (source `local`, 64x48 PNGs of noise,
all distinct, 8 types of 50 slides each, one small network of one epoch). Memory is the kernel's high-water mark of that
process; time is its CPU time, which other programs on the machine disturb less than the clock. The cost of an image is
the slope between two sizes, so that starting costs nothing. Small images show what grows with their number, which is
what this claim is about; the pixels of a larger image add themselves once per thread, as `--side 700` shows.
"""

import csv
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from omegaconf import OmegaConf

from measure import ROOT, Row, Run, options, parse, tell, timed

MODEL = ("--task", "binary", "--protocol", "case")
STAGES = {
    "fetch": (),
    "ingest": (),
    "impute": (),
    "split": (),
    "resize": (),
    "stain": MODEL[2:],
    "train": MODEL,
    "evaluate": MODEL,
    "export": MODEL,
}
LIMIT_MB = 1500
TYPES = {
    "Adenosis": "Benign",
    "Fibroadenoma": "Benign",
    "Phyllodes Tumor": "Benign",
    "Tubular Adenoma": "Benign",
    "Ductal Carcinoma": "Malignant",
    "Lobular Carcinoma": "Malignant",
    "Mucinous Carcinoma": "Malignant",
    "Papillary Carcinoma": "Malignant",
}


def draw(folder: Path, images: int, side: int) -> None:
    """Write `images` distinct PNGs and the table that names them."""
    rng = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "type", "magnification", "slide"])
        for number in range(images):
            kind = list(TYPES)[number % 8]
            slide = f"s{number % 8}-{number // 8 % 50}"
            path = Path("images", slide, f"{number:06}.png")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
            table.writerow([path.relative_to("images").as_posix(), TYPES[kind], kind, "100X", slide])


def write_params(folder: Path, source: Path) -> None:
    """Write the default parameters, pointed at the drawn images."""
    params = OmegaConf.load(ROOT / "params.yaml")
    changes = {
        "data.source": "local",
        "data.local": {"csv": str(source / "table.csv"), "images": str(source / "images")},
        "ingest.columns": {"path": "path", "magnification": "magnification", "slide": "slide"},
        "labels.grammar": None,
        "labels.tasks.binary.column": "label",
        "labels.tasks.multiclass.column": "type",
        "resize.size": 32,
        "tasks": ["binary"],
        "protocols": ["case"],
        "train.epochs": 1,
    }
    for key, value in changes.items():
        OmegaConf.update(params, key, value, merge=False)
    OmegaConf.save(params, folder / "params.yaml")


def measure(images: int, side: int, scratch: Path, only: list[str] | None) -> dict[str, Run]:
    """Run everything on so many images; print one row a stage, return the figures."""
    source, project = scratch / "source", scratch / "project"
    source.mkdir()
    project.mkdir()
    draw(source, images, side)
    write_params(project, source)
    commands = {name: [str(ROOT / "stages" / f"{name}.py"), *options] for name, options in STAGES.items()}
    asked = [str(source / "images"), "--model", "exports/binary-case", "--out", "answers.csv"]
    commands["predict"] = ["-m", "biopsy.cli", "predict", *asked]
    found = {}
    for name, command in commands.items():
        if only and name not in only:
            continue
        found[name] = timed(sys.executable, *command, cwd=project)
        seconds, cpu, peak = found[name]
        over = "OVER" if peak >= LIMIT_MB and name != "train" else ""
        print(f"{images:8,}  {name:10}{peak:9.0f}{cpu:9.1f}{seconds:9.1f}   {over}", flush=True)
    megabytes = {name: _size(project / name) for name in ("data/raw", "data/resized", "data/interim", "data/splits")}
    print(f"{images:8,}  disk MB: {', '.join(f'{name} {size:.0f}' for name, size in megabytes.items())}", flush=True)
    return found


def slope(found: dict[int, dict[str, Run]], name: str, few: int, many: int) -> float:
    """Return what an image more costs a stage, in CPU seconds."""
    return (found[many][name].processor - found[few][name].processor) / (many - few)


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Measure every stage at every size asked for, print the slopes."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[300, 3_000, 30_000, 300_000])
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="leave the others out; each needs those before it")
    parser.add_argument("--side", type=int, default=64, help="width of an image in pixels")
    chosen = parse(parser, images=[300, 1_000])
    print(f"{'images':>8}  {'stage':10}{'peak MB':>9}{'CPU s':>9}{'seconds':>9}   limit {LIMIT_MB} MB")
    found = {}
    for images in chosen.images:
        with tempfile.TemporaryDirectory() as scratch:
            found[images] = measure(images, chosen.side, Path(scratch), chosen.only)
            shutil.rmtree(scratch, ignore_errors=True)
    for few, many in pairwise(chosen.images):
        print(f"\nfrom {few:,} to {many:,} images, each: CPU ms, KB of memory")
        for name, run in found[many].items():
            memory = (run.peak_mb - found[few][name].peak_mb) / (many - few)
            print(f"  {name:10}{slope(found, name, few, many) * 1e3:9.2f}{memory * 1e3:9.2f}")
    costs = [sum(slope(found, name, *sizes) for name in found[sizes[1]]) for sizes in pairwise(chosen.images)]
    if len(costs) > 1:
        what = f"CPU per image, {chosen.images[-1]:,} by {chosen.images[1]:,}"
        tell(Row(what, costs[-1] / costs[0], "", goal="<=1.2"))
    for images, runs in found.items():
        worst = max((name for name in runs if name != "train"), key=lambda name: runs[name].peak_mb)
        what = f"{images:,} images, most: {worst}"
        tell(Row(what, runs[worst].peak_mb, "MB", goal=f"<={LIMIT_MB}"))
        if images == chosen.images[-1] and "train" in runs:
            tell(Row(f"{images:,} images, train", runs["train"].peak_mb, "MB"))


if __name__ == "__main__":
    main()
