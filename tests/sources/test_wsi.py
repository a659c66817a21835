"""Whole slides as a source: which tiles are cut, at what scale, with whose labels; what is wrong is named."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from dvc.utils.hydra import compose_and_dump

from biopsy.core.engine import LOCAL, Engine
from biopsy.core.errors import BiopsyError, DataError, MachineError
from biopsy.core.outside import own_names, watch
from biopsy.core.sections.data import Columns, Data, Ingest
from biopsy.sources.fetch import outside_paths
from biopsy.sources.kinds.wsi import Part, cut_out, fill, paths
from biopsy.sources.slide_table import Row, Wsi, read_rows
from biopsy.tables.metadata import read_metadata
from conftest import ROOT, assert_kind
from painted_slides import BLUE, GLASS, RED, painted, write_slide
from schemes import scheme

TISSUE = (slice(64, 192), slice(64, 448))  # of `painted`: red from 64 to 192, blue from there


@pytest.fixture
def cut(tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, dict[str, Any]]]:
    """Fill a folder from a CSV of the slides below `tmp_path/slides`; return the table and the facts."""

    def run(csv: str, **settings: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
        (tmp_path / "slides.csv").write_text(csv)
        out = tmp_path / "out"
        (out / "images").mkdir(parents=True)
        given = {"csv": str(tmp_path / "slides.csv"), "folder": str(tmp_path / "slides"), "px": 32, **settings}
        facts = fill(Wsi(**given), out, tmp_path)
        return pd.read_csv(out / "metadata.csv", dtype=str, keep_default_na=False), facts

    (tmp_path / "slides").mkdir()
    return run


def pixels(root: Path, row: pd.Series) -> np.ndarray:
    return cv2.imread(str(root / "out/images" / row["path_to_image"]))[..., ::-1]


def regions(path: Path, *boxes: tuple[str | None, int, int, int, int]) -> None:
    """Rectangles as QuPath exports them; without a class, as people leave them."""
    shapes: list[tuple[str | None, str, Any]] = [(None, "Point", [1, 1])]
    for name, left, top, right, bottom in boxes:
        shapes.append((name, "Polygon", [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]))
    features = [
        {
            "properties": {"classification": {"name": name}} if name else {},
            "geometry": {"type": kind, "coordinates": at},
        }
        for name, kind, at in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_tiles_cover_the_tissue_alone_with_the_slides_label_case_and_scale(
    cut: Callable[..., Any], tmp_path: Path
) -> None:
    write_slide(tmp_path / "slides/a.tif")
    write_slide(tmp_path / "slides/b.tif")
    table, facts = cut("slide,diagnosis,case\na.tif,benign,P1\nb.tif,malignant,P2\n")
    assert facts["images"] == len(table) == 2 * (128 // 32) * (384 // 32)
    assert set(zip(table["slide"], table["diagnosis"], table["case"], strict=True)) == {
        ("a", "benign", "P1"), ("b", "malignant", "P2"),
    }  # fmt: skip
    assert set(table["mpp"]) == {"0.5"}
    whole = painted()
    for _, row in table.iterrows():
        x, y = (int(part[1:]) for part in Path(row["path_to_image"]).stem.split("-")[1:])
        np.testing.assert_array_equal(pixels(tmp_path, row), whole[y : y + 32, x : x + 32])


@pytest.mark.parametrize("gap", ["", "NA"])
def test_a_case_column_with_gaps_is_refused_since_one_case_would_become_two(
    cut: Callable[..., Any], tmp_path: Path, gap: str
) -> None:
    for name in "ab":
        write_slide(tmp_path / f"slides/{name}.tif")
    with pytest.raises(DataError, match=r"slides\.csv row 3: no case, which other rows have \(1 such rows\)"):
        cut(f"slide,diagnosis,case\na.tif,benign,P1\nb.tif,malignant,{gap}\n")
    shutil.rmtree(tmp_path / "out")
    table, _ = cut(',slide,,diagnosis,mpp\n0,a.tif,,benign,NA\n1,b.tif,,malignant,"0,5"\n')
    assert set(table["case"]) == {"a", "b"}
    assert "" not in table.columns


@pytest.mark.parametrize("header", ["slide,diagnosis,case,Case", "slide,diagnosis,MPP,mpp", "slide,Slide,diagnosis,x"])
def test_two_columns_of_one_meaning_are_refused_since_one_would_count_unseen(
    cut: Callable[..., Any], tmp_path: Path, header: str
) -> None:
    write_slide(tmp_path / "slides/a.tif")
    with pytest.raises(DataError, match=r"slides\.csv has two columns '(case|mpp|slide)'\. Rename one\."):
        cut(f"{header}\na.tif,0.5,0.5,0.25\n")


def test_files_of_one_slide_stay_together_where_the_table_names_the_slide(
    cut: Callable[..., Any], tmp_path: Path
) -> None:
    for name in "ab":
        write_slide(tmp_path / f"slides/{name}.tif")
    table, _ = cut("file,Slide,diagnosis\na.tif,S1,benign\nb.tif,S1,benign\n", column="file")
    assert set(zip(table["slide"], table["case"], strict=True)) == {("S1", "S1")}
    assert set(table["path_to_image"].str[0]) == {"a", "b"}
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(
        DataError, match=r"slides\.csv row 3: no slide, which other rows have \(1 such rows\): two files"
    ):
        cut("file,slide,diagnosis\na.tif,S1,benign\nb.tif,,benign\n", column="file")


def test_a_scale_of_the_table_that_contradicts_the_file_is_told_and_counted(
    cut: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, um in {"a": 0.5, "b": 0.5, "c": None}.items():
        write_slide(tmp_path / f"slides/{name}.tif", um=um)
    _, facts = cut("slide,diagnosis,mpp\na.tif,benign,0.25\nb.tif,benign,0.49\nc.tif,benign,0.25\n")
    assert facts["mpp_not_of_file"] == {"count": 1, "listed": ["row 2: 0.25, a.tif: 0.5"]}
    assert "the mpp of 1 of 3 slides is not what their files say (row 2: 0.25, a.tif: 0.5)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["slide", "case", "MPP", "path_to_image"])
def test_regions_fill_no_column_that_the_tiles_have_of_their_own(name: str) -> None:
    with pytest.raises(ValueError, match=f"data.wsi.regions is '{name}', and the tiles have a column of that name"):
        Wsi(regions=name)


@pytest.mark.parametrize("named", ["SUB/a.TIF", "a.tif", "a", "/mnt/d/sub/a.tif", "sub\\a.tif", "C:\\my\\sub\\a.tif"])
def test_slides_are_matched_as_images_are_and_counted(cut: Callable[..., Any], tmp_path: Path, named: str) -> None:
    (tmp_path / "slides/sub").mkdir()
    write_slide(tmp_path / "slides/sub/a.tif")
    (tmp_path / "slides/sub/a.xml").write_text("<a/>")
    table, facts = cut(f"slide,diagnosis\n{named},benign\n")
    assert set(table["slide"]) == {"a"}
    assert facts["matched_loosely"] == {"count": 1, "listed": [f"row 2: {named} is sub/a.tif"]}


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("a", " 2 files fit: x/a.tif, y/a.tif."),
        ("b.svs", ""),
        ("x/aa.tif", " Did you mean 'x/a.tif'?"),
        ("a" * 300, ""),
    ],
)
def test_a_slide_that_may_be_two_files_or_none_is_named(
    cut: Callable[..., Any], tmp_path: Path, named: str, hint: str
) -> None:
    for folder in "xy":
        (tmp_path / f"slides/{folder}").mkdir()
        write_slide(tmp_path / f"slides/{folder}/a.tif")
    with pytest.raises(DataError) as caught:
        cut(f"slide,diagnosis\n{named},benign\n")
    assert f"slides.csv row 2: the slide '{named}' is not in {tmp_path}/slides.{hint} Correct the row." in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("diagnosis", "slides.csv: 1 row with a label that is not a class of task 'binary' (row 4: 'malign')"),
        ("dx", "slides.csv has no column 'dx' (it has: path_to_image, slide, case, mpp, diagnosis)"),
    ],
)
def test_errors_of_later_stages_name_the_users_table_and_its_row(
    cut: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, says: str
) -> None:
    for name in "ab":
        write_slide(tmp_path / f"slides/{name}.tif")
    monkeypatch.chdir(tmp_path)
    settings = {"csv": "slides.csv", "folder": "slides", "px": 32}
    (tmp_path / "data").mkdir()
    cut("slide,diagnosis\n\na.tif,benign\nb.tif,malign\n")
    (tmp_path / "out").rename(tmp_path / "data/raw")
    with watch("fetch", outside_paths(Data(source="wsi", wsi=settings))):
        pass
    task = {"column": column, "classes": {"benign": {}, "malignant": {}}}
    with pytest.raises(DataError) as caught:
        read_metadata(Path("data/raw/metadata.csv"), Ingest(columns=Columns(magnification=None)), scheme(binary=task))
    assert says in own_names(str(caught.value))


def test_a_tile_shows_as_many_micrometres_as_asked_for_whatever_the_slides_scale(
    cut: Callable[..., Any], tmp_path: Path
) -> None:
    write_slide(tmp_path / "slides/fine.tif", um=0.25)
    write_slide(tmp_path / "slides/silent.tif", um=None)
    table, _ = cut("slide,mpp\nfine.tif,\nsilent.tif,0.25\n", um_per_pixel=0.5)
    assert (table.groupby("slide").size() == (128 // 64) * (384 // 64)).all()  # 32 px of 0.5 um are 64 of 0.25
    last = table.iloc[-1]
    assert pixels(tmp_path, last).shape == (32, 32, 3)
    np.testing.assert_array_equal(np.unique(pixels(tmp_path, last).reshape(-1, 3), axis=0), [BLUE])


def test_regions_label_the_tiles_whose_middle_lies_in_one_class_alone(cut: Callable[..., Any], tmp_path: Path) -> None:
    write_slide(tmp_path / "slides/a.tif")
    regions(
        tmp_path / "slides/a.geojson",
        ("benign", 64, 64, 192, 192), ("malignant", 192, 64, 320, 192), ("stroma", 192, 64, 320, 128),
        (None, 320, 64, 448, 192),
    )  # fmt: skip
    table, facts = cut("slide\na.tif\n", regions="label")
    assert table["label"].value_counts().to_dict() == {"benign": 16, "malignant": 8}
    assert facts["left_out"] == {"tile in no region, or in regions of two classes": 8 + 16}
    for label, colour in (("benign", RED), ("malignant", BLUE)):
        tile = pixels(tmp_path, table[table["label"] == label].iloc[0])
        np.testing.assert_array_equal(np.unique(tile.reshape(-1, 3), axis=0), [colour])


def test_other_machines_cut_the_same_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slides").mkdir()
    for name in "abc":
        write_slide(tmp_path / f"slides/{name}.tif")
    (tmp_path / "slides.csv").write_text("slide\na.tif\nb.tif\nc.tif\n")
    settings = Wsi(csv="slides.csv", folder="slides", px=32)

    def ship(function: Any, *arguments: Any) -> Any:
        """Call a function as another machine does: nothing but bytes goes there and comes back, and no folder."""
        sent, there = pickle.loads(pickle.dumps((function, arguments)))
        assert [row for row in there if isinstance(row, Row) and not row.file.is_absolute()] == []
        return pickle.loads(pickle.dumps(sent(*there)))

    monkeypatch.chdir(tmp_path)
    found = []
    for place, engine in (("here", LOCAL), ("there", Engine(3, ship))):
        new = _empty(tmp_path / place)
        facts = fill(settings, new, tmp_path, engine)
        found.append(([(p.relative_to(new), p.read_bytes()) for p in sorted(new.rglob("*.*"))], facts))
    assert found[0] == found[1]
    assert len(found[0][0]) == 3 * 48 + 1
    with pytest.raises(MachineError, match=r"OpenCV .*Install 1\.0 there"):
        cut_out(Part(read_rows(settings)[0], settings, [], "1.0"))


def test_of_a_slide_with_more_tiles_evenly_spread_ones_are_kept_and_the_rest_is_counted(
    cut: Callable[..., Any], tmp_path: Path
) -> None:
    write_slide(tmp_path / "slides/a.tif")
    table, facts = cut("slide\na.tif\n", most=5)
    assert [Path(name).stem for name in table["path_to_image"]][::4] == ["a-x64-y64", "a-x416-y160"]
    assert len(table) == 5
    assert facts["left_out"] == {"tile beyond data.wsi.most": 43}


def test_glass_gives_no_tile_and_is_counted_and_glass_alone_is_an_error(
    cut: Callable[..., Any], tmp_path: Path
) -> None:
    write_slide(tmp_path / "slides/a.tif")
    write_slide(tmp_path / "slides/glass.tif", np.full((256, 512, 3), GLASS, np.uint8))
    assert cut("slide\na.tif\nglass.tif\n")[1]["left_out"] == {"slide without tissue": 1}
    with pytest.raises(BiopsyError, match=r"1 slides give no tile \(1 slide without tissue\)"):
        fill(Wsi(csv=_only(tmp_path), folder=str(tmp_path / "slides"), px=32), _empty(tmp_path), tmp_path)


def _only(root: Path) -> str:
    (root / "glass.csv").write_text("slide\nglass.tif\n")
    return str(root / "glass.csv")


def _empty(root: Path) -> Path:
    (root / "empty/images").mkdir(parents=True)
    return root / "empty"


@pytest.mark.parametrize(
    ("csv", "settings", "words"),
    [
        ("slide\na.tif\nb.tif\n", {}, r"slides.csv row 3: the slide 'b.tif' is not in .*Did you mean 'a.tif'"),
        ("slide\na.tif\na.tif\n", {}, r"row 2 and .* row 3: two slides are called 'a'"),
        ("slide,mpp\na.tif,72dpi\n", {}, r"row 2: mpp '72dpi' is not a number of micrometres"),
        ("slide\nsilent.tif\n", {}, r"row 2: .*silent.tif does not say how many micrometres a pixel is.*'mpp'"),
        ("slide\na.tif\n", {"px": 4096}, r"row 2: .*a.tif has 512x256 pixels, fewer than one tile of 4096"),
        ("slide\ntorn.tif\n", {}, r"torn.tif"),
        ("slide\na.tif\n", {"regions": "label"}, r"row 2: .*a.geojson is missing.*QuPath"),
        ("slide\nsilent.tif\n", {"regions": "label"}, r"silent.tif does not say"),
        ("file\na.tif\n", {}, r"no column 'slide'.*data.wsi.column"),
    ],
)
def test_what_is_wrong_with_a_slide_is_one_sentence_with_its_row(
    cut: Callable[..., Any], tmp_path: Path, csv: str, settings: dict[str, Any], words: str
) -> None:
    write_slide(tmp_path / "slides/a.tif")
    write_slide(tmp_path / "slides/silent.tif", um=None)
    (tmp_path / "slides/torn.tif").write_bytes((tmp_path / "slides/a.tif").read_bytes()[:300])
    with pytest.raises(BiopsyError, match=words):
        cut(csv, **settings)


POINT = '[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}, "properties": {"classification": "a"}}]'


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", '{"features": [{"geometry": "x"}]}', "[" * 5000, '{"features": 3}', POINT]
)
def test_a_damaged_file_of_regions_is_named(cut: Callable[..., Any], tmp_path: Path, content: str) -> None:
    write_slide(tmp_path / "slides/a.tif")
    (tmp_path / "slides/a.geojson").write_text(content)
    with pytest.raises(BiopsyError, match=r"a\.geojson is not a GeoJSON"):
        cut("slide\na.tif\n", regions="label")


def test_dvc_repro_looks_at_the_table_at_each_slide_and_at_its_regions(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif")
    regions(tmp_path / "a.geojson", ("x", 0, 0, 9, 9))
    (tmp_path / "slides.csv").write_text("slide\na.tif\n")
    settings = Wsi(csv=str(tmp_path / "slides.csv"), folder=str(tmp_path), regions="label")
    assert [each.path.name for each in paths(settings)] == ["slides.csv", "a.tif", "a.geojson"]


def test_slides_become_parts_by_case_with_the_preset(tmp_path: Path, run_stage: Callable[..., Any]) -> None:
    """fetch, ingest, impute and split as `dvc exp run -S data=wsi` runs them."""
    (tmp_path / "slides").mkdir()
    lines = ["slide,diagnosis,patient"]
    rng = np.random.default_rng(0)
    for number in range(12):
        unlike = painted() - rng.integers(0, 9, (256, 512, 3), np.uint8)
        write_slide(tmp_path / f"slides/s{number}.tif", unlike)
        lines.append(f"s{number}.tif,{('good', 'bad')[number % 2]},P{number // 2}{number % 2}")
    (tmp_path / "slides.csv").write_text("\n".join(lines))
    given = [
        "data=wsi", f"data.wsi.csv={tmp_path}/slides.csv", f"data.wsi.folder={tmp_path}/slides", "data.wsi.px=64",
        "labels=from_csv", "labels.tasks.label.column=diagnosis", "ingest.columns.case=patient", "protocols=[case]",
    ]  # fmt: skip
    compose_and_dump(tmp_path / "params.yaml", str(ROOT / "conf"), None, "config", "params", given)
    for stage in ("fetch", "ingest", "impute", "split"):
        done = run_stage(stage)
        assert done.returncode == 0, done.stderr
    labels = pd.read_csv(tmp_path / "data/interim/labels.csv")
    parts = labels.merge(pd.read_csv(tmp_path / "data/splits/case.csv"), on="image_id")
    assert set(parts["part"]) == {"train", "val", "test"}
    assert len(parts[["case", "part"]].drop_duplicates()) == parts["case"].nunique() == 12
    assert set(parts["mpp"]) == {0.5}
    (tmp_path / "slides.csv").write_text("slide,diagnosis,patient\nnowhere.tif,good,P1\n")
    assert_kind(run_stage("fetch"), "slides.csv row 2", "nowhere.tif")
