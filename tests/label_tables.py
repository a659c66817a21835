"""Tables of labels for tests: invented ones, and the real BreakHis names."""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

SUBTYPES = ("A", "F", "PT", "TA", "DC", "LC", "MC", "PC")


def invented(groups: dict[str, list[int]], path: str = "{}.png") -> pd.DataFrame:
    """Make labels from {subtype: [images of its first slide, of its second, ...]}; every slide is a case."""
    rows = [
        {"multiclass": subtype, "slide": f"{subtype}{number}", "seq": seq}
        for subtype, sizes in groups.items()
        for number, size in enumerate(sizes)
        for seq in range(size)
    ]
    table = pd.DataFrame(rows)
    table["image_id"] = table["slide"] + "-" + table["seq"].astype(str).str.zfill(4)
    table["case"] = table["slide"]
    table["pixels_sha256"] = table["image_id"]
    table["path"] = [path.format(image_id) for image_id in table["image_id"]]
    return complete(table)


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Add what follows from the subtype, and what no test reads."""
    order = table["multiclass"].map(SUBTYPES.index)
    return table.assign(
        binary=np.where(order < 4, "benign", "malignant"),
        magnification="100",
        width=64,
        height=48,
    )


def breakhis(csv: Path) -> pd.DataFrame:
    """Read the labels off the file names of a course CSV."""
    pattern = re.compile(r"SOB_[BM]_([A-Z]+)-\d+-((\d+)[A-Z]*)-\d+-\d+")
    paths = [line.split(",")[0] for line in csv.read_text("utf-8").splitlines()[1:]]
    rows = []
    for path in paths:
        subtype, slide, case = pattern.fullmatch(PurePosixPath(path).stem).groups()
        rows.append(
            {"image_id": PurePosixPath(path).stem, "path": path, "multiclass": subtype, "slide": slide, "case": case}
        )
    table = pd.DataFrame(rows)
    return complete(table.assign(pixels_sha256=table["image_id"])).sort_values("image_id", ignore_index=True)


MANY = invented(
    {"A": [9, 12, 7, 4, 10, 8], "F": [20, 15, 9, 6, 12], "DC": [30, 8, 8, 14, 22, 9, 5], "LC": [6, 6, 6, 5]}
)
