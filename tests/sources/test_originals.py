"""The known SHA-256 list tells original files from altered, unknown and absent ones."""

from importlib.resources import files
from pathlib import Path

import pandas as pd

from biopsy.sources.originals import compare, known
from biopsy.tables.labels.breakhis import parse


def test_list_names_all_7909_files() -> None:
    names = [parse(image_id) for image_id in known()]
    assert len(names) == 7909
    counts = pd.Series([name.subtype for name in names if name]).value_counts().to_dict()
    assert counts == {"A": 444, "F": 1014, "PT": 453, "TA": 569, "DC": 3451, "LC": 626, "MC": 792, "PC": 560}


def test_list_stays_small() -> None:
    assert len(files("biopsy.sources").joinpath("data/originals.csv.gz").read_bytes()) < 350_000


def test_real_subset_has_396_originals_of_421(real_data: Path) -> None:
    paths = [path.relative_to(real_data).as_posix() for path in (real_data / "BreaKHis_v1").rglob("*.png")]
    found = compare(real_data, paths)
    assert str(found) == "396 of 421 files are as published"
    assert (len(found.altered), found.unknown, found.absent) == (25, [], 7488)


def test_list_equals_the_published_one(real_data: Path) -> None:
    table = pd.read_csv(real_data / "sha256.csv")
    assert dict(zip(table["image_id"], table["sha256"], strict=True)) == known()


def test_altered_and_unknown_files_are_listed(tmp_path: Path) -> None:
    altered, unknown = "x/SOB_B_A-14-22549AB-100-001.png", "x/SOB_B_A-14-22549AB-100-999.png"
    (tmp_path / "x").mkdir()
    for path in (altered, unknown):
        (tmp_path / path).write_bytes(b"not the original")
    found = compare(tmp_path, [unknown, altered])
    assert (found.original, found.altered, found.unknown, found.absent) == (0, [altered], [unknown], 7908)
    assert str(found) == "0 of 2 files are as published"
