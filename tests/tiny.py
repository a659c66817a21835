"""A project that stands right before `train`: a few small images, labels, splits. Drawn, not copied."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biopsy.core.files import write_csv, write_json
from biopsy.core.sections.data import Resize
from biopsy.images.preparation.record import Preparation, write_preparation
from biopsy.tables.labels.scheme import write_scheme
from schemes import BREAKHIS

ORDER = ("A", "F", "PT", "TA", "DC", "LC", "MC", "PC")


def make_project(
    root: Path,
    per_class: int = 6,
    size: int = 32,
    protocols: tuple[str, ...] = ("case",),
    resize: Resize | None = None,
) -> pd.DataFrame:
    """Write labels, splits and resized images below `root`; the classes differ by their mean colour."""
    preparation = Preparation(max_pixels=50_000_000, resize=resize or Resize(size=size))
    rng, rows, tree = np.random.default_rng(0), [], root / "data/resized"
    for number, subtype in enumerate(ORDER):
        label = "benign" if number < 4 else "malignant"
        for i in range(per_class):
            image_id = f"{subtype}-{i:03d}"
            image = np.clip(rng.normal(40 + 25 * number, 20, (preparation.views * size, size, 3)), 0, 255).astype(
                np.uint8
            )
            tree.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tree / f"{image_id}.png"), image)
            part = "test" if i == per_class - 1 else "val" if i == per_class - 2 else "train"
            rows.append(
                {
                    "image_id": image_id, "path": f"{image_id}.png", "binary": label, "multiclass": subtype,
                    "magnification": (40, 100)[i % 2], "mpp": "", "slide": f"{number}{i}X", "case": f"{number}{i}",
                    "width": size, "height": size,
                    "pixels_sha256": "", "part": part,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows).sort_values("image_id", ignore_index=True)
    write_csv(root / "data/interim/labels.csv", table.drop(columns="part"))
    write_preparation(tree, preparation)
    for protocol in protocols:
        write_csv(root / "data/splits" / f"{protocol}.csv", table[["image_id", "part"]])
        write_preparation(root / "data/stained" / protocol, preparation)
    write_scheme(root / "models/labels.json", BREAKHIS)
    write_json(root / "data/raw/source.json", {"source": "sample", "synthetic": True, "description": "drawn"})
    write_json(root / "metrics/split.json", {})
    (root / "data/raw/slides.csv").write_text("slide\n")
    return table


def read(path: Path) -> dict:
    return json.loads(path.read_text())
