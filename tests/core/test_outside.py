"""What is noted of the user's files outside the project, and when the note changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from biopsy.core.errors import DataError
from biopsy.core.outside import FILE, Outside, look_again, measure, own_names, watch


def notes(root: Path) -> dict:
    return yaml.safe_load((root / FILE).read_text())


def tick(path: Path) -> None:
    """A later time of change, however coarse the file system's clock is."""
    now = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(now, now))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine/images/deep").mkdir(parents=True)
    (tmp_path / "mine/table.csv").write_text("a\n")
    for name in ("a.png", "deep/b.TIF", "notes.txt"):
        (tmp_path / "mine/images" / name).write_text(name)
    (tmp_path / "mine/images/round").symlink_to(tmp_path / "mine/images")
    return tmp_path / "mine"


CHANGES: dict[str, Callable[[Path], object]] = {
    "an edited table": lambda mine: (mine / "table.csv").write_text("b\n"),
    "a replaced image": lambda mine: (mine / "images/a.png").write_text("other"),
    "an image of the same size at a later time": lambda mine: tick(mine / "images/a.png"),
    "a new image": lambda mine: (mine / "images/deep/c.png").touch(),
    "a removed image": lambda mine: (mine / "images/deep/b.TIF").unlink(),
    "a renamed image": lambda mine: (mine / "images/a.png").rename(mine / "images/c.png"),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda mine: None,
    "a text among the images": lambda mine: (mine / "images/notes.txt").write_text("other"),
    "a table saved again": lambda mine: tick(mine / "table.csv"),
    "a copy of all at the same place, as on another machine": lambda mine: (mine / "images").rename(mine / "gone"),
}


@pytest.mark.parametrize("what", [*CHANGES, *NO_CHANGES])
def test_the_note_changes_with_what_a_stage_would_read_and_with_nothing_else(mine: Path, what: str) -> None:
    root = mine.parent
    with watch("fetch", [Outside("data.local.csv", mine / "table.csv"), Outside("x", mine / "images")], root):
        pass
    before = (root / FILE).read_text()
    assert notes(root)["watched"] == ["paths"]
    (CHANGES | NO_CHANGES)[what](mine)
    missing = look_again(root)
    assert ((root / FILE).read_text() != before) == (what in CHANGES)
    assert bool(missing) == (not (mine / "images").exists())


def test_a_change_while_the_stage_reads_is_seen_by_the_next_look(mine: Path) -> None:
    root = mine.parent
    with watch("split", [Outside("split.fold_table", mine / "table.csv")], root):
        (mine / "table.csv").write_text("changed meanwhile")
    before = notes(root)
    assert look_again(root) == []
    assert notes(root) != before


def test_a_stage_that_fails_notes_nothing_and_one_that_reads_nothing_more_ends_the_watch(mine: Path) -> None:
    root = mine.parent

    def fail() -> None:
        with watch("stain", [Outside("stain.reference", mine / "images/a.png")], root):
            raise DataError("stop")

    with pytest.raises(DataError):
        fail()
    assert not (root / FILE).exists()
    with watch("stain", [Outside("stain.reference", mine / "images/a.png")], root):
        pass
    with watch("train", [], root):
        pass
    assert notes(root)["watched"] == ["paths"]
    with watch("stain", [], root):
        pass
    assert notes(root)["watched"] == []


def test_errors_call_a_copy_by_the_name_of_the_users_file(mine: Path) -> None:
    root = mine.parent
    paths = [
        Outside("data.local.csv", mine / "table.csv", "data/raw/metadata.csv"),
        Outside("data.local.images", mine / "images", "data/raw/images"),
    ]
    said = "data/raw/metadata.csv row 7: data/raw/images/a.png is missing."
    assert own_names(said, root) == said
    with watch("fetch", paths, root):
        pass
    assert own_names(said, root) == f"{mine}/table.csv row 7: {mine}/images/a.png is missing."


@pytest.mark.parametrize("content", ["[1, 2]", "fetch: 3", "a: [", "\x00", "fetch: [[1]]", "a: " + "[" * 3000])
def test_a_damaged_note_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(content)
    with pytest.raises(DataError, match="git checkout"):
        look_again(tmp_path)


def test_what_is_not_there_or_not_readable_is_missing(tmp_path: Path) -> None:
    assert measure(tmp_path / "nothing") is None
    assert measure(Path("~nobody-of-this-name/x")) is None
