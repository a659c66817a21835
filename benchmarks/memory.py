"""Claim: no stage but train takes more than 1.5 GB of memory, at 8,000 images as at 80,000.

    python benchmarks/memory.py --images 8000       about 3 minutes on two cores
    python benchmarks/memory.py                     8,000 and 80,000 images, about half an hour

Each stage runs in a process of its own on a scratch project (source `local`, 64x48 PNGs of noise, all distinct, 8 types
of 50 slides each); the figure is the kernel's high-water mark of that process (VmHWM, Linux; the stages start threads,
not processes). Small images show what grows with their number, which is what this claim is about; the pixels of a
larger image add themselves once per thread, as `--side 700` shows.
"""

import csv
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from omegaconf import OmegaConf

from measure import ROOT, Row, options, parse, tell, timed

STAGES = ("fetch", "ingest", "impute", "split", "resize")
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
    columns = {"path": "path", "magnification": "magnification", "mpp": None, "slide": "slide", "case": None}
    changes = {
        "data.source": "local",
        "data.local": {"csv": str(source / "table.csv"), "images": str(source / "images")},
        "ingest.columns": columns,
        "labels.grammar": None,
        "labels.tasks.binary.column": "label",
        "labels.tasks.multiclass.column": "type",
        "resize.size": 64,
    }
    for key, value in changes.items():
        OmegaConf.update(params, key, value, merge=False)
    OmegaConf.save(params, folder / "params.yaml")


def main() -> None:
    """Measure every stage at every size asked for."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[8_000, 80_000])
    parser.add_argument("--side", type=int, default=64, help="width of an image in pixels")
    chosen = parse(parser, images=[300, 3000])
    for images in chosen.images:
        with tempfile.TemporaryDirectory() as scratch:
            source, project = Path(scratch, "source"), Path(scratch, "project")
            source.mkdir()
            project.mkdir()
            draw(source, images, chosen.side)
            write_params(project, source)
            runs = {stage: timed(sys.executable, ROOT / f"stages/{stage}.py", cwd=project) for stage in STAGES}
        worst = max(runs, key=lambda stage: runs[stage].peak_mb)
        print(", ".join(f"{stage} {run.peak_mb:.0f} MB {run.seconds:.1f} s" for stage, run in runs.items()))
        tell(Row(f"most memory of a stage but train, {images:,} images: {worst}", runs[worst].peak_mb, "MB",
                 goal=f"<={LIMIT_MB}"))  # fmt: skip


if __name__ == "__main__":
    main()
