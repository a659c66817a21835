"""`fetch`, run as `dvc repro` runs it: every source, and what a user can get wrong about each."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from fetched import RunStage, SetParams, assert_refused, listed, source, tree
from http_server import serving

from biopsy.core.sections.data import Data
from biopsy.sources import fetch as sources
from biopsy.sources.kinds.breakhis import Breakhis
from conftest import ROOT, assert_kind

# The official tree's names, the irregular slide folder included.
TREE = "BreaKHis_v1/histology_slides/breast"
NAMES = [
    f"{TREE}/benign/SOB/adenosis/SOB_B_A_14-21978AB/SOB_B_TA_14-3411F/40X/SOB_B_TA-14-3411F-40-001.png",
    f"{TREE}/benign/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png",
    f"{TREE}/malignant/SOB/ductal_carcinoma/SOB_M_DC_14-10926/100X/SOB_M_DC-14-10926-100-003.png",
]
TABLE = """path_to_image,Benign or Malignant,Cancer Type,Magnification
{},Benign,Tubular Adenoma,40X
{},Benign,Adenosis,100X
{},Malignant,Ductal Carcinoma,100X
""".format(*NAMES)
EXTRA = "BreaKHis_v1/README.txt"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A user's copy of BreaKHis, three tiny files and a text."""
    folder = tmp_path / "mine"
    for number, name in enumerate([*NAMES, EXTRA]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not really a PNG " * (number + 1))
    return folder


@pytest.fixture
def packed(copy: Path, tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "BreaKHis_v1.tar.gz", "w:gz") as tar:
        tar.add(copy / "BreaKHis_v1", "BreaKHis_v1")
    return tmp_path / "BreaKHis_v1.tar.gz"


# --- BreaKHis ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["mine", "mine/BreaKHis_v1", "mine/BreaKHis_v1/histology_slides", "."])
def test_breakhis_folder_is_found_around_histology_slides(
    copy: Path, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path.with_name(tmp_path.name + "-out")
    out.mkdir()
    sources.fill(Data(source="breakhis", breakhis=Breakhis(path=given)), out, tmp_path / "downloads")
    assert list(tree(out / "images")) == NAMES
    assert (out / "metadata.csv").read_text() == TABLE


def test_breakhis_folder_and_archive_give_the_same_data(
    copy: Path, packed: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    found = []
    for path in (copy, packed):
        set_params({"data.source": "breakhis", "data.breakhis.path": str(path)})
        result = run_stage("fetch")
        assert result.returncode == 0, result.stderr
        assert "0 of 3 files are as published" in result.stdout
        found.append(tree(tmp_path / "data/raw"))
    assert found[0].pop("source.json") != found[1].pop("source.json")  # a folder's text file lies outside the slides
    assert found[0] == found[1]
    assert list(found[0]) == [f"images/{name}" for name in NAMES] + ["metadata.csv", "slides.csv"]
    assert source(tmp_path)["left_out"] == {"not an image": 1}


def test_user_files_are_neither_linked_nor_touched(
    copy: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    """DVC may make what lies in data/raw read-only cache entries: they must not be the user's files."""
    before = {path: os.lstat(path)[:7] for path in copy.rglob("*") if path.is_file()}
    set_params({"data.source": "breakhis", "data.breakhis.path": str(copy)})
    assert run_stage("fetch").returncode == 0
    for path, status in before.items():
        assert os.lstat(path)[:7] == status, path  # mode, inode, links, owner, size
    for path in (tmp_path / "data/raw").rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.stat().st_nlink == 1


def test_dvc_leaves_the_users_files_alone(copy: Path, tmp_path: Path, set_params: SetParams) -> None:
    """With `cache.type` hardlink first, DVC would make a linked file of the user's its own, read-only and shared."""

    def dvc(*args: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "dvc", *args]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    command = f"cmd: {sys.executable} {ROOT}/stages/fetch.py"
    stage = f"{command}\n    params: [data]\n    outs: [data/raw: {{persist: true}}]"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  fetch:\n    {stage}")
    set_params({"data.source": "breakhis", "data.breakhis.path": str(copy)})
    dvc("init", "-q", "--no-scm")
    dvc("config", "cache.type", "hardlink,symlink,copy")
    before = {path: os.lstat(path)[:7] for path in copy.rglob("*") if path.is_file()}
    dvc("repro")
    assert {path: os.lstat(path)[:7] for path in copy.rglob("*") if path.is_file()} == before
    assert (tmp_path / "data/raw/images" / NAMES[0]).stat().st_nlink == 2  # one copy, in the cache


def test_source_json_says_what_is_original_and_what_is_not(
    copy: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    odd = f"{TREE}/benign/SOB/adenosis/thumbnail.png"
    (copy / odd).write_bytes(b"odd")
    set_params({"data.source": "breakhis", "data.breakhis.path": str(copy)})
    assert run_stage("fetch").returncode == 0
    facts = source(tmp_path)
    assert (facts["source"], facts["synthetic"], facts["images"]) == ("breakhis", False, 4)
    assert facts["left_out"] == {"name not of BreaKHis (in images/, not in metadata.csv)": 1}
    assert facts["originals"]["sentence"] == "0 of 4 files are as published"
    assert facts["originals"]["unknown_files"] == [odd]
    assert facts["originals"]["absent_of_7909"] == 7909 - 3
    assert "thumbnail" not in (tmp_path / "data/raw/metadata.csv").read_text()


def test_users_csv_is_copied_byte_by_byte(
    copy: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbfpath_to_image;\r\nodd \xff\r\n")
    set_params(
        {"data.source": "breakhis", "data.breakhis.path": str(copy), "data.breakhis.csv": str(tmp_path / "table.csv")}
    )
    assert run_stage("fetch").returncode == 0
    assert (tmp_path / "data/raw/metadata.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


def test_archive_is_downloaded_resumed_and_kept(
    packed: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    content = packed.read_bytes()
    with serving(content, "half") as server:
        set_params({"data.source": "breakhis", "data.breakhis.url": server.url})
        first = run_stage("fetch", env={"no_proxy": "127.0.0.1"})
        again = run_stage("fetch", env={"no_proxy": "127.0.0.1"})
        assert len(server.requests) == 2
    assert first.returncode == again.returncode == 0, first.stderr
    assert f"going on at {len(content) // 2}" in first.stdout
    assert "downloaded earlier" in again.stdout
    assert (tmp_path / "data/downloads/BreaKHis_v1.tar.gz").read_bytes() == content
    assert list(tree(tmp_path / "data/raw/images")) == NAMES


def test_failed_download_says_how_to_do_it_by_hand(tmp_path: Path, set_params: SetParams, run_stage: RunStage) -> None:
    with serving(b"", 404) as server:
        set_params({"data.source": "breakhis", "data.breakhis.url": server.url})
        result = run_stage("fetch", env={"no_proxy": "127.0.0.1"})
    assert_kind(result, server.url, "404", "fetch the archive by other means and set data.breakhis.path")
    assert result.returncode == 4


def test_archive_outside_histology_slides_is_left_out_and_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name in (NAMES[0].replace("BreaKHis_v1", "./other name"), "poster.png", EXTRA, "histology_slides/._x.png"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "out").mkdir()
    data = Data(source="breakhis", breakhis=Breakhis(path=str(tmp_path / "a.tar.gz")))
    facts = sources.fill(data, tmp_path / "out", tmp_path)
    assert list(tree(tmp_path / "out/images")) == NAMES[:1]
    assert facts["left_out"] == {"not an image": 2, "not below histology_slides": 1}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", ["data.breakhis.path", "nowhere is missing", "null downloads it"]),
        ("empty", ["data.breakhis.path", "no folder histology_slides in"]),
        ("twice", ["several copies", "twice/a/histology_slides", "Name one of them"]),
        ("unnamed", ["has no image with a BreaKHis name", "1 other images", "data.source to local"]),
        ("text.tar.gz", ["text.tar.gz is damaged, incomplete or no .tar.gz"]),
    ],
)
def test_wrong_breakhis_path_is_a_sentence(tmp_path: Path, path: str, words: list[str]) -> None:
    for folder in ("empty", "twice/a/histology_slides", "twice/b/histology_slides", "unnamed/histology_slides"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "unnamed/histology_slides/cat.png").write_bytes(b"cat")
    (tmp_path / "text.tar.gz").write_text("text")
    assert_refused(Data(source="breakhis", breakhis=Breakhis(path=str(tmp_path / path))), tmp_path, words)


def test_failure_leaves_the_earlier_data_and_nothing_else(
    copy: Path, packed: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    set_params({"data.source": "breakhis", "data.breakhis.path": str(copy)})
    assert run_stage("fetch").returncode == 0
    before = tree(tmp_path / "data/raw")
    packed.write_bytes(packed.read_bytes()[:-30])
    set_params({"data.source": "breakhis", "data.breakhis.path": str(packed)})
    assert_kind(run_stage("fetch"), "is damaged, incomplete")
    assert tree(tmp_path / "data/raw") == before
    assert listed(tmp_path / "data") == [".raw.made.json", ".resume", "outside.yaml", "raw"]
    assert listed(tmp_path / "data/raw") == ["images", "metadata.csv", "slides.csv", "source.json"]


def test_remains_of_a_killed_run_are_cleared(
    copy: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    (tmp_path / "data/.raw.new.1-abc.tmp/images/half").mkdir(parents=True)
    set_params({"data.source": "breakhis", "data.breakhis.path": str(copy)})
    assert run_stage("fetch").returncode == 0
    assert listed(tmp_path / "data") == [".raw.made.json", ".resume", "outside.yaml", "raw"]
    assert listed(tmp_path / "data/raw") == ["images", "metadata.csv", "slides.csv", "source.json"]


def test_new_source_replaces_every_file_of_the_old_one(
    copy: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    set_params({"data.source": "breakhis", "data.breakhis.path": str(copy)})
    assert run_stage("fetch").returncode == 0
    (copy / NAMES[0]).unlink()
    (copy / NAMES[1]).write_bytes(b"changed")
    assert run_stage("fetch").returncode == 0
    assert list(tree(tmp_path / "data/raw/images")) == NAMES[1:]
    assert (tmp_path / "data/raw/images" / NAMES[1]).read_bytes() == b"changed"


def test_real_subset_has_396_of_421_original_files(
    real_data: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    set_params({"data.source": "breakhis", "data.breakhis.path": str(real_data)})
    result = run_stage("fetch")
    assert "396 of 421 files are as published" in result.stdout
    made = pd.read_csv(tmp_path / "data/raw/metadata.csv")
    course = pd.read_csv(real_data / "image_data_subset.csv")
    both = made.merge(course, on="path_to_image", suffixes=("", " (course)"))
    assert len(made) == len(both) == 421
    for column in made.columns[1:]:
        filled = both[f"{column} (course)"].notna()
        assert (both[column] == both[f"{column} (course)"])[filled].all()


# --- sample -----------------------------------------------------------------------------------------------------------


def test_sample_is_drawn_and_says_that_it_is_synthetic(
    tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    set_params({"data.sample.images": 48, "data.sample.width": 64, "data.sample.height": 64})
    result = run_stage("fetch")
    assert result.returncode == 0, result.stderr
    assert "SYNTHETIC" in result.stdout
    facts = source(tmp_path)
    assert facts["synthetic"] is True
    assert facts["images"] == len(tree(tmp_path / "data/raw/images")) >= 48
    table = pd.read_csv(tmp_path / "data/raw/metadata.csv")
    assert set(table["path_to_image"]) == set(tree(tmp_path / "data/raw/images"))
