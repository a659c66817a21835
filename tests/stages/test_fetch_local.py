"""`fetch` from a folder and a CSV of the user's own, and what one can get wrong about them."""

import os
import zipfile
from pathlib import Path

import pytest
from fetched import RunStage, SetParams, assert_refused, source, tree
from raw import draw, obey_permissions, png

from biopsy.core.sections.data import Data
from biopsy.sources import fetch as sources
from biopsy.sources.kinds.breakhis import Breakhis
from biopsy.sources.kinds.local import Local
from biopsy.sources.user_files import keep_named
from conftest import assert_kind


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder as people have them: capitals, spaces, umlauts, links, texts, a folder named like an image."""
    folder = tmp_path / "my images"
    (folder / "Fälle/eins").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    for name in ("a.PNG", "Fälle/eins/b c.jpeg", "Fälle/ü.tif", "notes.txt", "._a.PNG"):
        (folder / name).write_bytes(name.encode())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/d.bmp").write_bytes(b"linked")
    (folder / "linked.bmp").symlink_to(tmp_path / "elsewhere/d.bmp")
    (folder / "linked folder").symlink_to(tmp_path / "elsewhere")
    (folder / "Fälle/round").symlink_to(folder)
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    rows = ("a.png", "b c", "../data/ü.tif", "linked.bmp", "d.bmp")  # as `ingest` would match them
    (tmp_path / "my.csv").write_text("file,label\n" + "".join(f"{row},benign\n" for row in rows))
    return folder


LOCAL = {"data.source": "local", "data.local.csv": "my.csv", "data.local.images": "my images"}


def test_a_table_of_slides_is_copied_as_it_is_and_checked_before_any_image_is(
    mine: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    (tmp_path / "slides.csv").write_text("Slide;age\n007;5\n")
    set_params(LOCAL | {"data.slides": "slides.csv"})
    assert run_stage("fetch").returncode == 0
    assert (tmp_path / "data/raw/slides.csv").read_text() == "Slide;age\n007;5\n"
    assert source(tmp_path)["slides"] == "facts about slides from slides.csv"
    before = tree(tmp_path / "data/raw")
    (tmp_path / "slides.csv").write_text("patient,age\n007,5\n")
    assert_kind(run_stage("fetch"), "data.slides", "slides.csv has no column 'slide'", "patient, age")
    set_params(LOCAL | {"data.slides": "slide.csv"})
    assert_kind(run_stage("fetch"), "data.slides", "slide.csv is missing")
    assert tree(tmp_path / "data/raw") == before


def test_local_folder_is_copied_and_the_rest_counted(
    mine: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    set_params(LOCAL)
    result = run_stage("fetch")
    assert result.returncode == 0, result.stderr
    names = ["Fälle/eins/b c.jpeg", "Fälle/ü.tif", "a.PNG", "linked folder/d.bmp", "linked.bmp"]
    assert sorted(tree(tmp_path / "data/raw/images")) == names
    for name in names:
        assert (tmp_path / "data/raw/images" / name).read_bytes() == (mine / name).read_bytes()
    assert (tmp_path / "data/raw/metadata.csv").read_bytes() == (tmp_path / "my.csv").read_bytes()
    assert source(tmp_path) == {
        "source": "local",
        "synthetic": False,
        "description": "5 images from a folder, with a CSV",
        "images": 5,
        "left_out": {"broken link or special file": 2, "folder named like an image": 1, "not an image": 2},
        "slides": "none: data.slides is null",
    }
    assert "5 images from a folder, with a CSV; left out: 2 broken link or special file" in result.stdout


def test_what_a_row_names_and_is_no_file_is_called_what_it_is(
    mine: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    (mine / "a.PNG").write_bytes(png(draw(0)))
    rows = ("a.PNG", "broken.png", "pipe.png", "folder.png", "none.png")
    (tmp_path / "my.csv").write_text("file,label\n" + "".join(f"{row},{row[0]}\n" for row in rows))
    task = {"tasks": ["label"], "labels": {"name": "x", "tasks": {"label": {"column": "label", "classes": "from_csv"}}}}
    set_params(LOCAL | task | {"ingest.columns.path": "file", "ingest.columns.magnification": None})
    assert run_stage("fetch").returncode == 0
    assert_kind(
        run_stage("ingest"), "4 of 5 files", f"broken.png (is a broken link, to {tmp_path}/nowhere.png)",
        "pipe.png (is a pipe or a device)", "folder.png (is a folder)",
    )  # fmt: skip


def test_weights_that_are_not_there_are_said_before_the_images_are_fetched_and_not_by_training_first(
    mine: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    (mine / "a.PNG").write_bytes(png(draw(0)))
    (tmp_path / "my.csv").write_text("path_to_image,label\na.PNG,a\n")
    for weights, said in ((f"{tmp_path}/typo.h5", True), ("none", False), (str(tmp_path / "my.csv"), False)):
        set_params(LOCAL | {"model.weights": weights})
        done = run_stage("fetch")
        assert done.returncode == 0, "who only fetches needs no weights"
        assert ("typo.h5 does not exist, and training will need it" in done.stderr) is said


def test_where_no_cell_names_an_image_all_are_copied_since_names_may_be_made_of_several_columns(
    mine: Path, tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    (tmp_path / "my.csv").write_text("patient,x,label\nA,17,benign\n5,18,benign\n6,19,benign\n")
    set_params(LOCAL)
    assert run_stage("fetch").returncode == 0
    assert source(tmp_path)["images"] == 5


SCAN = 3_000_000_000  # bytes; sparse, so that it takes no space until somebody copies it


@pytest.mark.parametrize("kind", ["local", "breakhis"])
def test_what_the_csv_does_not_name_is_counted_and_not_copied(kind: str, tmp_path: Path) -> None:
    folder, table, out = tmp_path / "histology_slides", tmp_path / "my.csv", tmp_path / "out"
    names = ["SOB_B_A-14-22549AB-40-001.png", "SOB_M_DC-14-2523-40-002.PNG"]
    for path in (folder, out):
        path.mkdir()
    for name in names:
        (folder / name).write_bytes(b"image")
    with (folder / "scan.png").open("wb") as stream:
        stream.truncate(SCAN)
    table.write_text("file;label\n" + "".join(f"x/{name.lower()};benign\n" for name in names))
    settings = {
        "local": {"local": Local(csv=str(table), images=str(folder))},
        "breakhis": {"breakhis": Breakhis(csv=str(table), path=str(folder))},
    }[kind]
    facts = sources.fill(Data(source=kind, **settings), out, tmp_path)
    assert facts["images"] == 2
    assert facts["left_out"] == {"not named in the CSV": 1}
    assert sorted(path.name for path in out.rglob("*") if path.suffix.lower() == ".png") == names


def test_an_archives_images_that_the_csv_does_not_name_are_not_unpacked(tmp_path: Path) -> None:
    names = ["SOB_B_A-14-22549AB-40-001.png", "SOB_M_DC-14-2523-40-002.png"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(f"BreaKHis_v1/histology_slides/{name}", b"image")
    (tmp_path / "my.csv").write_text(f"file\n{names[0]}\n")
    (tmp_path / "out").mkdir()
    settings = Breakhis(csv=str(tmp_path / "my.csv"), path=str(tmp_path / "a.zip"))
    facts = sources.fill(Data(source="breakhis", breakhis=settings), tmp_path / "out", tmp_path)
    assert (facts["images"], facts["left_out"]) == (1, {"not named in the CSV": 1})


@pytest.mark.parametrize(
    ("cell", "file"), [("im%201.png", "im 1.png"), ("7.0", "x/007.png"), ("TCGA-1", "TCGA-1.8d6f.png"), ("a", "a .png")]
)
def test_what_ingest_may_match_is_copied(cell: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(f"file,label\n{cell},benign\n")
    assert keep_named([file, "other.png"], tmp_path / "my.csv")[0] == [file]


@pytest.mark.parametrize("header", ["#file,label\n", ""])
def test_the_first_row_is_copied_where_the_header_looks_like_a_comment_or_is_lacking(
    header: str, tmp_path: Path
) -> None:
    names = ["a.png", "b.png", "c.png"]
    (tmp_path / "my.csv").write_text(header + "".join(f"{name},benign\n" for name in names))
    assert keep_named([*names, "other.png"], tmp_path / "my.csv")[0] == names


@pytest.mark.parametrize("text", ["file\n\xff.png\n", 'file\n"open\n', ""])
def test_a_csv_that_cannot_be_read_leaves_nothing_out(text: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_bytes(text.encode("latin-1"))
    assert keep_named(["a.png", "b.png"], tmp_path / "my.csv") == (["a.png", "b.png"], {"not named in the CSV": 0})


def test_name_outside_utf8_is_counted(mine: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(mine) + b"/\xff.png")).write_bytes(b"odd")
    (tmp_path / "out").mkdir()
    data = Data(source="local", local=Local(csv=str(tmp_path / "my.csv"), images=str(mine)))
    facts = sources.fill(data, tmp_path / "out", tmp_path)
    assert facts["left_out"]["name not in UTF-8"] == 1
    assert facts["images"] == 5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"csv": "no.csv"}, ["data.local.csv", "no.csv is missing", "relative to the project's folder"]),
        ({"csv": "my images"}, ["data.local.csv", "my images is a folder, not a CSV file"]),
        ({"images": "nowhere"}, ["data.local.images", "nowhere is not a folder"]),
        ({"images": "my.csv"}, ["data.local.images", "my.csv is not a folder"]),
        (
            {"images": "texts"},
            ["data.local.images", "no image lies below texts (1 not an image). Images are .png", "DICOM"],
        ),
        ({"images": "."}, ["data.local.images", "contains this pipeline's own data"]),
    ],
)
def test_wrong_local_source_is_a_sentence(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/readme").write_text("text")
    assert_refused(
        Data(source="local", local=Local(**{"csv": "my.csv", "images": "my images"} | overrides)), tmp_path, words
    )


def test_a_local_source_without_images_is_refused_before_anything_is_written(
    tmp_path: Path, set_params: SetParams, run_stage: RunStage
) -> None:
    set_params(LOCAL | {"data.local.images": None})
    assert_kind(run_stage("fetch"), "needs data.local.images", "data.local.csv, their table")
    assert not (tmp_path / "data/raw").exists()


@pytest.mark.parametrize("name", ["Fälle/ü.tif", "Fälle/eins", "../my.csv"])
def test_file_or_folder_without_permission_is_named(
    mine: Path, set_params: SetParams, run_alone: RunStage, name: str
) -> None:
    (mine / name).chmod(0)
    set_params(LOCAL)
    try:
        assert_kind(run_alone("fetch", preexec_fn=obey_permissions), name.rsplit("/")[-1], "chmod u+r")
    finally:
        (mine / name).chmod(0o755)


def test_read_only_output_is_a_sentence(mine: Path, tmp_path: Path, set_params: SetParams, run_alone: RunStage) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o500)
    set_params(LOCAL)
    assert_kind(run_alone("fetch", preexec_fn=obey_permissions), "no permission for", "data/")


@pytest.mark.parametrize("key", ["data.breakhis.path", "data.breakhis.csv", "data.local.images", "data.slides"])
def test_the_home_of_nobody_is_a_sentence(mine: Path, tmp_path: Path, key: str) -> None:
    path = "~nosuchuser/x"
    data = {
        "data.breakhis.path": Data(source="breakhis", breakhis=Breakhis(path=path)),
        "data.breakhis.csv": Data(source="breakhis", breakhis=Breakhis(csv=path)),
        "data.local.images": Data(source="local", local=Local(csv=str(tmp_path / "my.csv"), images=path)),
        "data.slides": Data(slides=path),
    }[key]
    assert_refused(data, tmp_path, [key, path, "Write the whole path"])
