"""The resize stage: resumes, redoes, removes, and leaves the earlier tree alone when it fails."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from label_tables import breakhis, invented
from PIL import Image

from biopsy.core.errors import DataError
from biopsy.core.files import write_csv
from biopsy.core.owned import note_made
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.preparation.record import read_preparation
from conftest import ROOT, assert_kind

JOURNAL = "data/.resume/resized.jsonl"


def draw(path: Path, seed: int, width: int = 80, height: int = 60) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((width, height)).save(path)


class Project:
    """A folder of source images, their labels, and the stage run in this process (starting one costs seconds)."""

    def __init__(self, root: Path, set_params: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.set_params, self.capsys = root, set_params, capsys
        self.table = invented({"A": [3, 2], "DC": [4, 3]}, "deep folder/ü {}.png")
        for seed, path in enumerate(self.table["path"]):
            draw(self.source(path), seed)
        self.ingest()

    def source(self, path: str) -> Path:
        return self.root / "data/raw/images" / path

    def ingest(self) -> None:
        """Record what the source images hold now."""
        hashes = [hash_pixels(read_rgb(self.source(path), 10**7)) for path in self.table["path"]]
        write_csv(self.root / "data/interim/labels.csv", self.table.assign(pixels_sha256=hashes, width=80, height=60))

    def run(self, **overrides: object) -> str:
        self.set_params({"resize.size": 32} | {key.replace("__", "."): value for key, value in overrides.items()})
        self.capsys.readouterr()
        runpy.run_path(str(ROOT / "stages/resize.py"))["main"]()
        return self.capsys.readouterr().out

    def tree(self) -> dict[str, bytes]:
        base = self.root / "data/resized"
        return {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*.png") if p.is_file()}

    def images(self) -> list[np.ndarray]:
        return [cv2.imread(str(p)) for p in (self.root / "data/resized").rglob("*.png")]


@pytest.fixture
def project(tmp_path: Path, set_params, capsys, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, set_params, capsys)


def test_every_image_becomes_a_square_rgb_png_that_is_called_by_its_id(project: Project) -> None:
    assert project.run() == "resize: 12 images at 32x32 (stretch): 12 made, 0 kept, 0 stale removed.\n"
    assert sorted(project.tree()) == sorted(f"{name}.png" for name in project.table["image_id"])
    for path in (project.root / "data/resized").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
    assert not (project.root / "data/.resume/resized").exists()


def test_a_second_run_makes_nothing_and_other_parameters_make_all_anew(project: Project) -> None:
    project.run()
    first = project.tree()
    assert "0 made, 12 kept, 0 stale" in project.run()
    assert "12 made, 0 kept" in project.run(resize__mode="pad")
    assert project.tree() != first
    grey = project.run(resize__structure="grayscale")
    assert "(stretch, grayscale): 12 made, 0 kept" in grey
    assert all((image == image[..., :1]).all() for image in project.images())
    assert "12 made" in project.run()
    assert project.tree() == first
    assert len((project.root / JOURNAL).read_text().splitlines()) == 12


def test_a_tree_says_how_it_was_made_and_any_change_of_it_makes_all_anew(project: Project) -> None:
    """Whatever a Preparation holds is part of each image's key, so no field can leave stale images."""
    project.run()
    written = read_preparation(project.root / "data/resized")
    assert (written.size, written.max_pixels, written.min_size, written.stain) == (32, 50_000_000, 32, None)
    for key in ("resize__tiles", "ingest__max_pixels"):  # neither changes a pixel here
        changed = {"px": 40, "rows": 1, "columns": 1} if key == "resize__tiles" else 10**6
        assert "12 made, 0 kept" in project.run(**{key: changed})
        assert read_preparation(project.root / "data/resized") != written


def test_tiles_stand_one_below_the_other_in_one_file(project: Project) -> None:
    tiles = {"px": 40, "rows": 2, "columns": 3}
    printed = project.run(resize__mode="tiles", resize__tiles=tiles)
    assert printed == "resize: 12 images at 32x32 (6 tiles each): 12 made, 0 kept, 0 stale removed.\n"
    assert {image.shape for image in project.images()} == {(6 * 32, 32, 3)}


@pytest.mark.parametrize(
    ("px", "mode", "views", "small", "says"),
    [
        (60, "tiles", 6, 0, ""),
        (61, "tiles", 6, 12, "resize: 12 images have a side shorter than a tile of 61 px"),
        (79, "tiles", 6, 12, "resize: 12 images have a side shorter than a tile of 79 px"),
        (80, "stretch", 1, 12, "resize: no image is longer than a tile of 80 px"),
    ],
)
def test_images_smaller_than_a_tile_are_resized_all_the_same_and_counted(
    project: Project, px: int, mode: str, views: int, small: int, says: str
) -> None:
    """The images have 80x60 pixels. The tree says how they were made, and so does the model that is trained on it."""
    printed = project.run(resize__mode="tiles", resize__tiles={"px": px, "rows": 2, "columns": 3})
    assert says in printed
    assert printed.count("\n") == 1 + bool(says)
    made = read_preparation(project.root / "data/resized")
    assert (made.resize.mode, made.views) == (mode, views)
    assert {image.shape for image in project.images()} == {(views * 32, 32, 3)}
    told = json.loads((project.root / "metrics/resize.json").read_text())
    assert told == {"images": 12, "mode": mode, "views": views, "smaller_than_a_tile": small}


def test_the_earlier_name_of_the_mode_is_one_sentence_that_says_what_to_write(project: Project, run_stage) -> None:
    project.set_params({"resize": {"size": 32, "aspect": "pad"}})
    assert_kind(run_stage("resize"), "params.yaml: resize.aspect is now called resize.mode. Write resize.mode: pad.")


def test_other_code_makes_all_anew_and_code_that_makes_no_pixels_nothing(project: Project, edit_code) -> None:
    project.run()
    for name, made in (("image_tree", 0), ("decode", 0), ("resize", 12), ("resized_tree", 12)):
        edit_code(f"biopsy/images/{name}.py")
        assert f"{made} made" in project.run(), name


def test_an_image_that_changed_at_the_source_is_made_anew_once_it_was_ingested(project: Project) -> None:
    project.run()
    before = project.tree()
    changed = project.source(project.table["path"][4])
    draw(changed, 999)
    os.utime(changed, (0, 0))  # its age does not matter
    project.ingest()
    assert "1 made, 11 kept" in project.run()
    assert sum(project.tree()[name] != before[name] for name in before) == 1


def test_a_source_that_changed_since_it_was_ingested_is_an_error_that_names_it(project: Project) -> None:
    draw(project.source(project.table["path"][4]), 999)
    with pytest.raises(DataError, match=r"ü A1-0001\.png has other pixels than when it was ingested.*dvc repro"):
        project.run()


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_source_that_cannot_be_read_is_an_error_and_the_earlier_tree_stays(project: Project, damage: str) -> None:
    project.run()
    before = project.tree()
    source = project.source(project.table["path"][4])
    content = source.read_bytes()
    source.unlink() if damage == "missing" else source.write_bytes(content[:-40])
    assert "12 kept" in project.run()  # nothing to be made of it: the tree is whole
    with pytest.raises(DataError, match=r"ü A1-0001\.png .*passed ingest.*dvc repro"):
        project.run(resize__size=48)
    assert project.tree() == before
    source.write_bytes(content)
    printed = project.run(resize__size=48)
    assert "12 images at 48x48" in printed
    assert cv2.imread(str(next((project.root / "data/resized").rglob("*.png")))).shape == (48, 48, 3)


@pytest.mark.parametrize("damage", ["edited", "half", "empty", "gone", "folder"])
def test_a_resized_file_that_is_not_as_it_was_written_is_made_anew(project: Project, damage: str) -> None:
    project.run()
    before = project.tree()
    victim = next((project.root / "data/resized").glob("*.png"))
    content = victim.read_bytes()
    victim.unlink()
    if damage == "folder":
        victim.mkdir()
    elif damage != "gone":
        victim.write_bytes({"edited": content[:-1] + b"x", "half": content[: len(content) // 2], "empty": b""}[damage])
    assert "1 made, 11 kept" in project.run()
    assert project.tree() == before


@pytest.mark.parametrize("tail", [b'{"image_id": "A0-0', b"\xff\xfe\x00", b"[1, 2]\n", b'{"image_id": "x"}\n'])
def test_a_torn_or_foreign_line_of_the_journal_costs_no_more_than_itself(project: Project, tail: bytes) -> None:
    project.run()
    journal = project.root / JOURNAL
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]) + tail)
    assert "1 made, 11 kept" in project.run()
    assert "0 made, 12 kept" in project.run()


def test_without_its_journal_the_stage_makes_all_anew_rather_than_trust_the_tree(project: Project) -> None:
    project.run()
    (project.root / JOURNAL).unlink()
    assert "12 made, 0 kept" in project.run()


def test_images_of_ours_and_folders_that_belong_to_no_row_are_removed(project: Project) -> None:
    project.run()
    (project.root / "data/resized/malignant/XX").mkdir(parents=True)  # as an earlier version laid its tree out
    (project.root / "data/resized/malignant/XX/old.png").touch()
    note_made(project.root / "data/resized")
    project.table = project.table.iloc[1:]
    project.ingest()
    assert "0 made, 11 kept, 2 stale removed" in project.run()
    names = {p.name for p in (project.root / "data/resized").iterdir()}
    assert names == {f"{name}.png" for name in project.table["image_id"]} | {"preparation.json"}


def test_a_file_of_the_users_own_in_the_tree_stops_the_stage_and_stays(project: Project) -> None:
    project.run()
    (project.root / "data/resized/mine.txt").touch()
    with pytest.raises(DataError, match=r"mine\.txt"):
        project.run()
    assert (project.root / "data/resized/mine.txt").exists()


def test_a_corrected_label_makes_no_image_anew(project: Project) -> None:
    project.run()
    project.table = project.table.assign(**{"class": "malignant", "subtype": "LC"})
    project.ingest()
    assert "0 made, 12 kept, 0 stale removed" in project.run()


def test_an_existing_file_is_replaced_and_never_written_into(project: Project) -> None:
    """It may be a hard link into the DVC cache, read-only as DVC makes them."""
    project.run()
    cache = project.root / "cache"
    cache.mkdir()
    files = sorted((project.root / "data/resized").rglob("*.png"))
    for number, path in enumerate(files):
        os.link(path, cache / str(number))
        path.chmod(0o444)
    before = [(cache / str(number)).read_bytes() for number in range(len(files))]
    project.run(resize__mode="crop")
    assert [(cache / str(number)).read_bytes() for number in range(len(files))] == before
    assert all(path.read_bytes() != content for path, content in zip(files, before, strict=True))


def test_killed_with_sigkill_it_goes_on_where_it_stopped(project: Project, run_stage, capsys) -> None:
    """A real process, killed mid-way; what was whole is not made again and the tree equals an unbroken run's."""
    project.table = invented({"A": [30, 30], "DC": [30, 30]})
    for seed, path in enumerate(project.table["path"]):
        draw(project.source(path), seed, 200, 160)
    project.ingest()
    project.set_params({"resize.size": 256})
    command = [sys.executable, str(ROOT / "stages/resize.py")]
    process = subprocess.Popen(command, cwd=project.root, env={**os.environ, "PYTHONPATH": str(ROOT)})
    journal = project.root / JOURNAL
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 20):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was too quick to be killed"
    assert project.tree() == {}, "the tree shows no half of a run"
    whole = journal.read_bytes().count(b"\n")
    result = run_stage("resize")
    assert result.returncode == 0, result.stderr
    made, kept = (int(result.stdout.split(f" {word}")[0].split()[-1]) for word in ("made", "kept"))
    with capsys.disabled():
        print(f"\nkilled after {whole} of 120 images; resumed: {kept} kept, {made} made")
    assert (made, kept) == (120 - whole, whole)
    resumed = project.tree()
    journal.unlink()
    assert "120 made" in project.run(resize__size=256)
    assert project.tree() == resumed


def test_killed_while_the_tree_is_put_in_place_nothing_is_made_again(project: Project) -> None:
    """Some files are in the tree already, others still wait in the staging folder."""
    project.run()
    before = project.tree()
    for path in sorted((project.root / "data/resized").rglob("*.png"))[::2]:
        waiting = project.root / "data/.resume/resized" / path.relative_to(project.root / "data/resized")
        waiting.parent.mkdir(parents=True, exist_ok=True)
        path.rename(waiting)
    assert "0 made, 12 kept" in project.run()
    assert project.tree() == before


def test_a_broken_write_leaves_no_temporary_file_and_no_line_in_the_journal(project: Project, monkeypatch) -> None:
    def full(path: Path, data: bytes) -> int:
        os.write(os.open(path, os.O_WRONLY | os.O_CREAT), data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        project.run()
    assert [p for p in (project.root / "data").rglob("*") if p.is_file() and "tmp" in p.name] == []
    monkeypatch.undo()
    monkeypatch.chdir(project.root)
    assert (project.root / JOURNAL).read_bytes() == b""
    assert "12 made" in project.run()


def test_a_full_disk_ends_in_a_sentence_and_the_next_run_with_space_goes_on(
    tmp_path: Path, mount, set_params, capsys, run_stage
) -> None:
    mount(tmp_path / "data", "-t", "tmpfs", "-o", "size=700k", "tmpfs")
    project = Project(tmp_path, set_params, capsys)
    set_params({"resize.size": 256})
    assert_kind(run_stage("resize"), "no space left on the disk", "same command again")
    assert project.tree() == {}
    done = len((tmp_path / JOURNAL).read_text().splitlines())
    assert 0 < done < 12
    subprocess.run(["mount", "-o", "remount,size=20m", str(tmp_path / "data")], check=True)
    result = run_stage("resize")
    assert f"{12 - done} made, {done} kept" in result.stdout, result.stderr


def test_a_read_only_output_folder_ends_in_a_sentence(project: Project, mount, run_stage) -> None:
    project.set_params({"resize.size": 32})
    mount(project.root / "data/resized", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs")
    assert_kind(run_stage("resize"), "read-only", "data/resized", "same command again")


def test_real_images_are_resized_as_the_table_says(project: Project, real_data: Path) -> None:
    project.table = breakhis(real_data / "image_data_subset.csv").iloc[::30].reset_index(drop=True)
    for path in project.table["path"]:
        project.source(path).parent.mkdir(parents=True, exist_ok=True)
        project.source(path).symlink_to(real_data / path)
    project.ingest()
    assert f"{len(project.table)} made" in project.run(resize__size=256)
    made = [cv2.imread(str(p)) for p in (project.root / "data/resized").rglob("*.png")]
    assert {image.shape for image in made} == {(256, 256, 3)}
    journal = [json.loads(line) for line in (project.root / JOURNAL).read_text().splitlines()]
    assert {entry["image_id"] for entry in journal} == set(project.table["image_id"])
