"""`dvc repro` sees a change of the user's own files, wherever they lie, and a clone without them still works."""

from pathlib import Path

import pytest
from raw import HEADER, draw, eight_images, png, rows_of

from scratch import call, clone, copy_project, set_defaults

RUNS = "Running stage 'fetch'"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "images").mkdir()
    images = eight_images()
    for name, content in images.items():
        assert content is not None
        (folder / "images" / name).write_bytes(content)
    (folder / "table.csv").write_text("\n".join([HEADER, *rows_of(images)]) + "\n")
    return folder


@pytest.fixture(scope="module")
def project(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_project(tmp_path_factory.mktemp("outside"))
    set_defaults(
        root, data__source="local", data__local__csv=str(mine / "table.csv"), data__local__images=str(mine / "images")
    )
    assert RUNS in call(root, "dvc", "repro", "impute").stdout
    call(root, "dvc", "repro", "-q", "impute")
    call(root, "git", "add", "-A")
    call(root, "git", "commit", "-qm", "mine")
    call(root, "dvc", "push", "-q")
    return root


def test_an_edited_table_or_image_is_fetched_by_the_next_repro_and_nothing_else_is(project: Path, mine: Path) -> None:
    quiet = call(project, "dvc", "repro", "impute").stdout
    assert RUNS not in quiet
    assert call(project, "git", "status", "--porcelain").stdout == ""
    table = (mine / "table.csv").read_text()
    (mine / "table.csv").write_text(table.replace(".png", ".jpg", 1))
    failed = call(project, "dvc", "repro", "impute", check=False)
    assert f"{mine}/table.csv" in failed.stderr, "the user's own file, not our copy"
    assert "data/raw" not in failed.stderr
    (mine / "table.csv").write_text(table)
    assert RUNS in call(project, "dvc", "repro", "impute").stdout, "the repaired file is all it takes"
    image = next((mine / "images").iterdir())
    image.write_bytes(png(draw(99)))
    assert RUNS in call(project, "dvc", "repro", "impute").stdout


def test_a_clone_without_the_files_keeps_what_was_pulled(project: Path, mine: Path, tmp_path: Path) -> None:
    call(project, "git", "checkout", "-q", ".")
    copy = clone(project.parent, tmp_path, pull=False)
    call(copy, "dvc", "pull", "-q", "impute", "ingest", "fetch")
    aside = mine.rename(mine.with_name("aside"))
    try:
        printed = call(copy, "dvc", "repro", "impute").stdout
    finally:
        aside.rename(mine)
    assert "is not on this machine; what was made of it is kept" in printed
    assert RUNS not in printed
    assert call(copy, "git", "status", "--porcelain").stdout == ""
