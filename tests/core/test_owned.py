"""What a person puts into an output folder is never deleted; what the pipeline or DVC can make again is replaced."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from biopsy.core.errors import DataError, MachineError
from biopsy.core.files import atomic_dir
from biopsy.core.owned import check_owned, note_made


def make(folder: Path, content: str = "made") -> None:
    with atomic_dir(folder) as new:
        (new / "images").mkdir()
        (new / "images/a.png").write_text(content)
        (new / "table.csv").write_text(content)


@pytest.mark.parametrize("name", ["mine.csv", "images/mine.png", "deep/er/.hidden", "images/link.png"])
def test_a_file_of_the_users_own_stops_the_stage_with_its_name_and_stays(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    make(out)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    if "link" in name:
        (out / name).symlink_to(tmp_path)
    else:
        (out / name).write_text("years of work")
    with pytest.raises(DataError, match=name):
        make(out, "new")
    assert (out / name).exists()
    assert (out / "table.csv").read_text() == "made"
    (out / name).unlink()
    make(out, "new")
    assert (out / "table.csv").read_text() == "new"


def test_a_file_that_arrives_while_the_stage_works_stops_it_too(tmp_path: Path) -> None:
    make(tmp_path / "out")

    def work() -> None:
        with atomic_dir(tmp_path / "out") as new:
            (new / "table.csv").write_text("new")
            (tmp_path / "out/mine.csv").write_text("years of work")

    with pytest.raises(DataError, match=r"mine\.csv"):
        work()
    assert (tmp_path / "out/mine.csv").read_text() == "years of work"


def test_an_edited_table_stops_the_stage(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out/table.csv").write_text("corrected by hand")
    with pytest.raises(DataError, match=r"table\.csv"):
        make(tmp_path / "out")
    check_owned(tmp_path / "out", ours=())  # trees of images are made anew, edited or not
    (tmp_path / ".out.made.json").unlink()  # as in a clone, where DVC brought the files
    check_owned(tmp_path / "out", ours=["table.csv", "images/a.png"])
    with pytest.raises(DataError, match=r"images/a\.png"):
        check_owned(tmp_path / "out", ours=["table.csv"])


def test_a_folder_that_was_there_before_the_first_run_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out")  # an empty one is nobody's
    (tmp_path / "other").mkdir()
    (tmp_path / "other/table.csv").write_text("mine")
    with pytest.raises(DataError, match=r"table\.csv"):
        make(tmp_path / "other")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file"):
        make(tmp_path / "file")


def test_what_the_file_manager_leaves_is_nobodys(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out/.DS_Store").touch()
    make(tmp_path / "out")


def test_a_run_that_was_killed_between_its_renames_does_not_take_its_own_files_for_the_users(tmp_path: Path) -> None:
    make(tmp_path / "out")
    note_made(tmp_path / "out", ["images/b.png", "table.csv"])
    (tmp_path / "out/images/b.png").write_text("new")
    (tmp_path / "out/table.csv").write_text("another length")
    make(tmp_path / "out")


@pytest.mark.slow
def test_an_index_that_dvc_cannot_write_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("a")
    monkeypatch.setattr("dvc.repo.Repo", full_disk)
    with pytest.raises(MachineError, match=r"DVC cannot write its index \(disk I/O error\).*Free some space"):
        check_owned(tmp_path / "out")


def full_disk(path: str) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_what_dvc_can_bring_back_may_go(tmp_path: Path) -> None:
    """As in a clone after `dvc pull`, where no note says who made the files."""
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    make(tmp_path / "out")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "out"], cwd=tmp_path, check=True)
    (tmp_path / ".out.made.json").unlink()
    check_owned(tmp_path / "out")
    (tmp_path / "out/table.csv").unlink()
    (tmp_path / "out/table.csv").write_text("mine")
    with pytest.raises(DataError, match=r"edited since: table\.csv\."):
        check_owned(tmp_path / "out")
