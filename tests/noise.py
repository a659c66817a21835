"""Images of noise, and the trees that engines make of them."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biopsy.core.engine import LOCAL, Engine
from biopsy.core.sections.data import Resize
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.resized_tree import resize_all

PREPARATION = Preparation(max_pixels=10**6, resize=Resize(size=32))


class Images:
    """Images of noise, their labels, and the trees that engines make of them."""

    def __init__(self, root: Path, count: int = 12, size: tuple[int, int] = (48, 64)) -> None:
        self.root, rows = root, []
        (root / "images").mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
            path = root / "images" / f"{number}.{('png', 'jpg', 'tif')[number % 3]}"
            cv2.imwrite(str(path), pixels)
            rows.append((f"id{number}", path.name, hash_pixels(read_rgb(path, 10**6))))
        self.labels = pd.DataFrame(rows, columns=["image_id", "path", "pixels_sha256"])

    def tree(self, name: str, engine: Engine = LOCAL) -> dict[str, bytes]:
        """Every file of the tree and of the journal, which lists images in the order in which they are ready."""
        resize_all(
            self.labels, self.root / "images", self.root / name, self.root / f"{name}-resume", PREPARATION, engine
        )
        journal = (self.root / f"{name}-resume/resized.jsonl").read_bytes().splitlines()
        files = [path for path in (self.root / name).iterdir() if path.is_file()]
        return {path.name: path.read_bytes() for path in files} | {"journal": b"\n".join(sorted(journal))}
