"""`biopsy predict` of whole slides: where tiles lie, at what scale, what is skipped, damage, stops, other layouts."""

import gc
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile

from biopsy.cli import command
from biopsy.core.errors import BiopsyError, DataError, MachineError
from biopsy.core.files import sha256
from biopsy.images.looks.measure import look_at
from biopsy.images.looks.record import ranges_of
from biopsy.images.slides.find import is_slide
from biopsy.images.slides.reader import open_slide
from biopsy.images.slides.tissue import Cut, look_over
from biopsy.serving.onnx_file import Network
from biopsy.serving.slides import run
from biopsy.serving.slides.heat import LOST, Heat, write_pyramid
from biopsy.serving.slides.journal import TileJournal
from biopsy.serving.slides.scale import Scale, trained_scale
from cards import CARD
from painted_slides import BLUE, GLASS, RED, damage, painted, write_slide
from tiny_onnx import DARK, SIZE, write_onnx

OUTPUTS = ["heatmap.png", "heatmap.tif", "summary.json", "tiles.csv", "tiles.geojson"]
OUTPUTS += ["tiles.parquet"] if find_spec("pyarrow") else []
Predict = Callable[..., pd.DataFrame]


def write_strips(path: Path) -> Path:
    tifffile.imwrite(path, painted(), photometric="rgb", rowsperstrip=8, compression="deflate", **ome())
    return path


def write_ome(path: Path) -> Path:
    with tifffile.TiffWriter(path, ome=True) as file:
        shared: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate"}
        file.write(painted(), subifds=1, **shared, **ome())
        file.write(painted()[::4, ::4], subfiletype=1, **shared)
    return path


def ome() -> dict[str, Any]:
    return {"metadata": {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one model."""
    write_onnx(tmp_path / "exports/tiny.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predict(project: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Predict a slide without its heat map, which costs most; return the table of tiles."""
    monkeypatch.setattr(run, "_draw", lambda path, *_: path.write_bytes(b""))

    def table(path: str | Path, *options: str, out: str = "out") -> pd.DataFrame:
        command(["predict", str(path), "--out", out, *options])
        return pd.read_csv(project / out / Path(path).stem / "tiles.csv", keep_default_na=False)

    return table


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_tiles_lie_on_tissue_alone_and_the_areas_of_classes_are_right(predict: Predict, tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif")
    table = predict("a.tif")
    wanted = [(x, y) for y in range(64, 192, SIZE) for x in range(64, 448, SIZE)]
    assert list(zip(table["x"], table["y"], strict=True)) == wanted
    assert set(table["width"]) == set(table["height"]) == {SIZE}
    assert (table["tissue"] > 0.98).all()
    assert (table["predicted"] == np.where(table["x"] < 192, "benign", "malignant")).all()
    expected = 1 / (1 + np.exp(0.01 * np.where(table["x"] < 192, sum(RED), sum(BLUE)) - 3.81))
    assert table["p_malignant"].to_numpy() == pytest.approx(expected, abs=1e-5)
    found = summary(tmp_path / "out/a")
    assert found["notice"] == "Research use only; not for diagnosis."
    assert found["classes"]["benign"]["area_share"] == pytest.approx(1 / 3, abs=0.002)
    assert found["classes"]["malignant"]["area_mm2"] == pytest.approx(256 * 128 * 0.25e-6, rel=0.01)
    assert sorted(p.name for p in (tmp_path / "out/a").iterdir()) == OUTPUTS


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="pip install -e '.[parquet]'")
def test_the_tiles_are_a_parquet_table_too(predict: Predict, tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif")
    table, found = predict("a.tif"), pd.read_parquet(tmp_path / "out/a/tiles.parquet")
    assert found.drop(columns="error").equals(table.drop(columns="error"))
    assert found["error"].isna().all()
    write_slide(tmp_path / "glass.tif", np.full((64, 64, 3), GLASS, np.uint8))
    predict("glass.tif")
    assert len(pd.read_parquet(tmp_path / "out/glass/tiles.parquet")) == 0


def test_a_parquet_table_of_an_earlier_model_does_not_stay_beside_newer_tiles(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    write_slide(tmp_path / "a.tif")
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/tiles.parquet").write_bytes(b"of another model")
    predict("a.tif")
    assert not (tmp_path / "out/a/tiles.parquet").exists()


def test_regions_are_closed_rectangles_in_pixels_at_full_resolution_with_class_and_measurements(
    predict: Predict, tmp_path: Path
) -> None:
    write_slide(tmp_path / "a.tif")
    table = predict("a.tif")
    features = json.loads((tmp_path / "out/a/tiles.geojson").read_text())["features"]
    assert len(features) == len(table)
    last, row = features[-1], table.iloc[-1]
    ring = last["geometry"]["coordinates"][0]
    assert ring == [[416, 160], [448, 160], [448, 192], [416, 192], [416, 160]]
    assert last["properties"]["classification"] == {"name": "malignant", "color": [0xD5, 0x5E, 0x00]}
    assert last["properties"]["measurements"]["p_malignant"] == row["p_malignant"]


def test_the_heat_map_colours_only_tiles_and_equal_runs_draw_it_in_equal_bytes(project: Path) -> None:
    write_slide(project / "a.tif")
    for out in ("out", "again"):
        command(["predict", "a.tif", "--out", out])
    assert (project / "out/a/heatmap.png").read_bytes() == (project / "again/a/heatmap.png").read_bytes()
    image = cv2.imread(str(project / "out/a/heatmap.png"))[:, :540]  # without the bar
    colours = image.astype(np.uint32) @ (1 << 16, 1 << 8, 1)
    counted = sorted(zip(*np.unique(colours, return_counts=True), strict=True), key=lambda c: -c[1])
    *plain, blue, red = counted[:4]
    assert {colour for colour, _ in plain} == {0xFFFFFF, 0xF0F0F0}  # paper and glass
    assert blue[1] / red[1] == pytest.approx(2, abs=0.1)


def test_the_heat_map_names_its_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    draw = run.draw_heatmap
    monkeypatch.setattr(run, "draw_heatmap", lambda *given: [said.append(given[-1]), draw(*given)][1])
    write_slide(project / "a.tif")
    command(["predict", "a.tif", "--out", "out"])
    assert said == ["probability of malignant, model binary-case"]


def test_a_long_name_of_any_letters_fits_above_the_heat_map(project: Path) -> None:
    names = ("a", "ä组Ж" * 20)
    for name in names:
        write_slide(project / f"{name}.tif")
        command(["predict", f"{name}.tif", "--out", "out"])
    short, long = (cv2.imread(str(project / "out" / name / "heatmap.png")) for name in names)
    assert np.array_equal(short[60:], long[60:])
    assert (short[:60] < 255).any(2).sum() * 10 < (long[:60] < 255).any(2).sum()
    assert (long[:, -20:] == 255).all()


def test_where_tiles_overlap_the_heat_map_has_their_mean_and_lies_on_the_slide(
    predict: Predict, tmp_path: Path
) -> None:
    write_slide(tmp_path / "a.tif")
    table = predict("a.tif", "--overlap", "0.5")
    assert set(np.diff(sorted(set(table["x"])))) == {SIZE // 2}
    found = summary(tmp_path / "out/a")
    assert (found["tile_overlap"], found["heatmap_tif_slide_pixels_per_pixel"]) == (0.5, 2)
    areas = [about["area_mm2"] for about in found["classes"].values()]
    assert sum(areas) == pytest.approx(384 * 128 * 0.25e-6, rel=0.05)  # no tissue counts twice
    with tifffile.TiffFile(tmp_path / "out/a/heatmap.tif") as file:
        assert 'PhysicalSizeX="1.0" PhysicalSizeXUnit="µm"' in str(file.ome_metadata)
        levels = [level.asarray() for level in file.series[0].levels]
        assert all(page.keyframe.is_tiled for page in file.series[0].levels)
    assert [level.shape for level in levels] == [(128, 256)]
    for x, y in ((64, 64), (127, 79), (199, 130), (320, 185), (447, 191)):
        over = table[(table.x <= x) & (x < table.x + SIZE) & (table.y <= y) & (y < table.y + SIZE)]
        assert levels[0][y // 2, x // 2] == pytest.approx(over["p_malignant"].mean(), abs=1e-5), (x, y)
    assert np.isnan(levels[0][: (64 - SIZE // 2) // 2]).all()


@pytest.mark.parametrize("overlap", [0, 0.3, 0.5, 0.9])
def test_the_heat_of_a_place_is_the_mean_of_the_tiles_on_it_that_were_read(tmp_path: Path, overlap: float) -> None:
    cutting, size, rng = Cut(37.7, 29.3, (8, 8), 0.25, 0.25, overlap), (197, 131), np.random.default_rng(0)
    heat, (rows, columns) = Heat(cutting, size), cutting.grid(*size)
    x, y = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    total, known, tried = np.zeros((3, len(y), len(x)))
    for row, column in np.ndindex(rows, columns):
        left, top = column * cutting.stride[0], row * cutting.stride[1]
        inside = np.outer((y >= top) & (y < top + 29.3), (x >= left) & (x < left + 37.7))
        if (value := rng.choice([np.nan, LOST, rng.random()])) == value:
            heat.add(round(left), round(top), value)
            tried += inside
            total, known = total + inside * max(value, 0), known + inside * (value >= 0)
    expected = np.where(known, total / np.maximum(known, 1), np.where(tried, LOST, np.nan))
    np.testing.assert_allclose(heat.at(x, y), expected, atol=1e-6)
    shrink = write_pyramid(tmp_path / "a.tif", heat, "words")
    coarse = (x[: -(-size[0] // shrink)] * shrink, y[: -(-size[1] // shrink)] * shrink)
    expected = np.where((there := heat.at(*coarse)) == LOST, np.nan, there)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif", level=0), expected)


def test_the_pyramid_of_a_large_slide_is_written_in_pieces_down_to_a_pixel_a_tile(tmp_path: Path) -> None:
    heat = Heat(Cut(100, 100, (100, 100), 0.25, 0.25), (20_001, 15_000))
    heat.add(3_000, 2_000, 0.75)
    assert write_pyramid(tmp_path / "a.tif", heat, "words") == 8
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
        scales = [level.keyframe.tags["XResolution"].value for level in file.series[0].levels]
    assert [level.shape for level in levels] == [(1875, 2501), (938, 1251), (469, 626), (235, 313)]
    assert [1e4 * per / of for of, per in scales] == [2, 4, 8, 16]
    for number, level in enumerate(levels):
        step = 8 * 2**number
        y, x = np.nonzero(level == 0.75)
        for places, start in ((x, 3_000), (y, 2_000)):
            assert start <= (places.min() + 0.5) * step < start + step
            assert start + 100 - step <= (places.max() + 0.5) * step < start + 100
        assert len(x) == np.isfinite(level).sum()


def test_tiles_are_read_at_the_scale_and_with_the_shape_of_the_training_images(
    predict: Predict, tmp_path: Path
) -> None:
    write_onnx(tmp_path / "exports/tiny.onnx", scale={"um_per_pixel": 1.0, "width": 32, "height": 16})
    write_slide(tmp_path / "a.tif")
    table = predict("a.tif")
    assert table[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[64, 32]]
    assert len(table) == 6 * 4
    assert (table["predicted"] == np.where(table["x"] < 192, "benign", "malignant")).all()


@pytest.mark.parametrize("um", [None, 352.8])  # 352.8: the 72 dpi of a program that did not know
def test_a_slide_without_a_scale_needs_one_and_gets_it_by_mpp(
    predict: Predict, tmp_path: Path, um: float | None
) -> None:
    write_onnx(tmp_path / "exports/tiny.onnx", scale={"um_per_pixel": 1.0, "width": 32, "height": 32})
    write_slide(tmp_path / "a.tif", um=um)
    with pytest.raises(BiopsyError, match=r"a.tif does not say how many micrometres.*--mpp"):
        predict("a.tif")
    assert set(predict("a.tif", "--mpp", "0.5")["width"]) == {64}


def test_a_model_without_a_scale_reads_full_resolution_and_says_so_until_a_scale_is_given(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_slide(tmp_path / "a.tif")
    assert set(predict("a.tif")["width"]) == {SIZE}
    assert "does not know the scale" in capsys.readouterr().err
    assert set(predict("a.tif", "--tile-mpp", "1")["width"]) == {2 * SIZE}
    assert "does not know the scale" not in capsys.readouterr().err


def test_without_a_scale_a_tile_has_as_many_pixels_as_a_training_image(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of 64x48 pixels were squeezed to the network's square: a tile of that size would show larger cells."""
    looks = ranges_of([{**look_at(np.full((1, SIZE, SIZE, 3), RED, np.uint8)), "width": 64.0, "height": 48.0}])
    write_onnx(tmp_path / "exports/tiny.onnx", DARK.model_copy(update={"training": looks}))
    write_slide(tmp_path / "a.tif")
    table = predict("a.tif", "--tile-mpp", "0.5")
    assert table[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[64, 48]]
    assert not table["unlike_training"].str.contains("width|height").any()
    assert {tuple(place) for place in predict("a.tif", "--tile-mpp", "1", out="b")[["width", "height"]].to_numpy()} == {
        (128, 96)
    }
    predict("a.tif", out="c")
    assert "so tiles of 64x48 pixels are read at the full resolution" in capsys.readouterr().err


def test_tiles_unlike_the_training_images_are_named_and_from_a_tenth_on_the_user_is_warned(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model of `project` knows nothing of its training images, so its tables have no such column."""
    for name, known in (("red", [RED]), ("both", [RED, BLUE])):
        looks = ranges_of([look_at(np.full((1, SIZE, SIZE, 3), colour, np.uint8)) for colour in known])
        write_onnx(tmp_path / f"{name}.onnx", DARK.model_copy(update={"training": looks}))
    write_slide(tmp_path / "a.tif")
    assert "unlike_training" not in predict("a.tif", "--model", "exports/tiny.onnx", out="unknown")
    assert summary(tmp_path / "unknown/a")["tiles_unlike_training"] is None
    assert list(predict("a.tif", "--model", "both.onnx", out="alike")["unlike_training"].unique()) == [""]
    assert summary(tmp_path / "alike/a")["tiles_unlike_training"] == 0
    assert "unlike" not in capsys.readouterr().err
    table = predict("a.tif", "--model", "red.onnx", out="other")
    assert ((table["unlike_training"] != "") == (table["predicted"] == "malignant")).all()  # the blue ones
    assert summary(tmp_path / "other/a")["tiles_unlike_training"] == 32
    assert "32 of 48 tiles look unlike the training images (most often: stain strength), so" in capsys.readouterr().err


@pytest.mark.parametrize(("colour", "tiles"), [(GLASS, 0), (BLUE, 128), ((0, 0, 0), 0)])
def test_a_slide_of_one_colour_is_all_glass_or_all_tissue(
    predict: Predict, tmp_path: Path, colour: tuple[int, int, int], tiles: int
) -> None:
    write_slide(tmp_path / "a.tif", np.full((256, 512, 3), colour, np.uint8))
    assert len(predict("a.tif")) == tiles
    assert summary(tmp_path / "out/a")["tiles"] == tiles


def test_pale_tissue_beside_dark_is_tissue_and_tinted_glass_is_none(tmp_path: Path) -> None:
    pixels = np.full((256, 512, 3), (243, 238, 240), np.uint8)
    pixels[64:192, 64:192], pixels[64:192, 192:448] = (232, 214, 226), (120, 40, 130)
    found = look_over(open_slide(write_slide(tmp_path / "a.tif", pixels))).tissue
    assert found[70:186, 70:442].all()
    assert found.mean() == pytest.approx(0.375, abs=0.01)


def stop_in_second_batch(monkeypatch: pytest.MonkeyPatch, predict: Predict) -> None:
    given, calls = Network.__call__, []

    def stopping(self: Network, views: Any) -> Any:
        calls.append(len(views))
        if sum(calls) > 40:
            raise KeyboardInterrupt
        return given(self, views)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt, match=r"32 of 48 tiles of a\.tif are done"):
            predict("a.tif")


def test_a_stopped_prediction_continues_and_ends_with_the_same_bytes(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_slide(tmp_path / "a.tif")
    predict("a.tif", out="whole")
    stop_in_second_batch(monkeypatch, predict)
    with (tmp_path / "out/a/tiles.unfinished.csv").open("a") as stream:
        stream.write("448,16")  # as a power cut leaves it
    predict("a.tif")
    assert "32 of 48 tiles are done already" in capsys.readouterr().err
    for name in OUTPUTS:
        assert (tmp_path / "out/a" / name).read_bytes() == (tmp_path / "whole/a" / name).read_bytes(), name
    assert sorted(p.name for p in (tmp_path / "out/a").iterdir()) == OUTPUTS


@pytest.mark.parametrize(
    "row",
    [
        "x,y,z",
        "64,64,32,32,1.0,benign,nan,nan,",
        "64,64,32,32,1.0,benign,0.9,0.9,",
        "-5,64,32,32,1.0,benign,0.5,0.5,",
        "9999,64,32,32,1.0,benign,0.5,0.5,",
        "64,64,32,32,1.0,other,0.5,0.5,",
        "64,64,32,32,much,benign,0.5,0.5,",
        "\0" * 30,
    ],
)
def test_tiles_whose_rows_were_edited_are_predicted_again(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    write_slide(tmp_path / "a.tif")
    predict("a.tif", out="whole")
    stop_in_second_batch(monkeypatch, predict)
    journal = tmp_path / "out/a/tiles.unfinished.csv"
    lines = journal.read_text().split("\n")
    journal.write_text("\n".join([*lines[:4], row, *lines[5:]]))
    predict("a.tif")
    for name in OUTPUTS:
        assert (tmp_path / "out/a" / name).read_bytes() == (tmp_path / "whole/a" / name).read_bytes(), name


def test_a_journal_that_is_cut_anywhere_keeps_its_whole_batches(tmp_path: Path) -> None:
    path, about, size = tmp_path / "tiles.unfinished.csv", {"slide": "a"}, (9, 20)
    columns = ["x", "y", "width", "height", "tissue", "predicted", "p_a", "p_b", "error"]
    cells = ",10,1,1,1.0,a,0.5,0.5,\n"
    with TileJournal(tmp_path, about, columns, 2, size).table() as rows:
        for number in range(5):
            values = (str(number) + cells).strip("\n").split(",")
            rows.writerow(dict(zip(columns, values, strict=True)))
        assert path.read_bytes().endswith(f"\n3{cells}".encode())  # a kill now would lose no whole batch
    content = path.read_bytes()
    first = f"\n0{cells}".encode()
    head, *lines = content.split(first)[0] + b"\n", *[f"{number}{cells}".encode() for number in range(5)]
    assert head + b"".join(lines) == content
    for length in range(len(head), len(content) + 1):
        path.write_bytes(content[:length])
        whole = (length - len(head)) // len(lines[0]) // 2 * 2
        assert TileJournal(tmp_path, about, columns, 2, size).done == whole
        assert path.read_bytes() == head + b"".join(lines[:whole])


@pytest.mark.parametrize("stopped", [True, False])
def test_another_slide_of_the_same_name_starts_anew_and_an_unchanged_one_is_left_alone(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stopped: bool
) -> None:
    write_slide(tmp_path / "a.tif")
    if stopped:
        stop_in_second_batch(monkeypatch, predict)
    else:
        predict("a.tif")
    write_slide(tmp_path / "a.tif", painted()[:, ::-1])
    assert predict("a.tif")["predicted"].tolist()[0] == "malignant"
    assert "another slide, model or scale" in capsys.readouterr().err
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/a").iterdir()}
    predict("a.tif")
    assert "complete already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out/a").iterdir()} == before


@pytest.mark.parametrize("levels", [1, 2])
def test_damaged_tiles_are_rows_with_their_reason_and_the_others_are_as_before(
    predict: Predict, tmp_path: Path, levels: int
) -> None:
    path = write_slide(tmp_path / "a.tif", levels=levels)
    if levels == 1:
        path = path.rename(tmp_path / "a.ome.tif")
    whole = predict(path.name, out="whole")
    damage(path)
    for _ in range(2):  # the first time, and from what it left
        with pytest.raises(DataError, match="4 of the tiles have no prediction"):
            predict(path.name)
    table = pd.read_csv(tmp_path / "out" / path.stem / "tiles.csv", keep_default_na=False)
    bad = (table["x"] >= 128) & (table["x"] < 192) & (table["y"] < 128)
    assert (table["error"].str.contains("cannot be read") == bad).all()
    assert table[~bad].drop(columns="tissue").astype(str).equals(whole[~bad].drop(columns="tissue").astype(str))
    assert len(json.loads((tmp_path / "out" / path.stem / "tiles.geojson").read_text())["features"]) == len(whole) - 4


@pytest.mark.parametrize("write", [write_strips, write_ome])
def test_ome_files_that_openslide_does_not_take_are_read_by_tifffile(
    predict: Predict, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    slide = open_slide(write(tmp_path / "b.ome.tif"))
    assert (slide.vendor, slide.um_per_pixel) == ("tiff", 0.5)
    write_slide(tmp_path / "a.tif")
    assert predict("b.ome.tif").equals(predict("a.tif"))
    file = slide._layout._file.filehandle  # type: ignore[attr-defined]
    del slide
    gc.collect()
    assert file.closed


def test_a_region_is_the_same_whichever_way_it_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (256, 512, 3), np.uint8)
    one = open_slide(write_slide(tmp_path / "a.tif", pixels))
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="rgb", rowsperstrip=8)
    other = open_slide(tmp_path / "b.tif")
    for x, y in ((0, 0), (37, 21), (490, 230)):
        inside = pixels[y : y + 40, x : x + 50]
        for slide in (one, other):
            region = slide.region(x, y, 50, 40, (50, 40))
            assert (region[: inside.shape[0], : inside.shape[1]] == inside).all()
            assert (region[inside.shape[0] :] == 255).all()
            assert (region[:, inside.shape[1] :] == 255).all()


def test_places_are_counted_from_the_corner_of_what_was_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (256, 512, 3), np.uint8)
    box = {f"openslide.bounds-{name}": str(v) for name, v in {"x": 100, "y": 40, "width": 300, "height": 200}.items()}
    about = {"openslide.vendor": "mirax", "openslide.mpp-x": "0.2", "openslide.mpp-y": "0.2", **box}
    monkeypatch.setattr(openslide.OpenSlide, "properties", property(lambda _: about))
    slide = open_slide(write_slide(tmp_path / "a.tif", pixels))
    assert (slide.width, slide.height, slide.um_per_pixel) == (300, 200, pytest.approx(0.2))
    assert (slide.region(7, 9, 50, 30, (50, 30)) == pixels[49:79, 107:157]).all()


def test_missing_packages_are_named_with_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(MachineError, match=r"has no package openslide.*\.\[slides\]"):
        open_slide(tmp_path / "a.svs")


@pytest.mark.parametrize(("number", "name"), [(34712, "JPEG2000"), (60000, "60000")])
def test_a_compression_that_is_not_read_is_named(tmp_path: Path, number: int, name: str) -> None:
    path = write_slide(tmp_path / "a.tif")
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            page.tags["Compression"].overwrite(number)
    with pytest.raises(DataError, match=rf"a.tif is compressed as {name}.*vips tiffsave"):
        open_slide(path)


def test_a_slide_without_a_pyramid_is_looked_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = open_slide(write_slide(tmp_path / "a.tif", levels=1))
    monkeypatch.setattr("biopsy.images.slides.tissue.SIDE", 100)
    monkeypatch.setattr("biopsy.images.slides.tissue.BLOCK", 120)
    sizes = []
    region = slide.region
    monkeypatch.setattr(slide, "region", lambda *given: sizes.append(given[2:4]) or region(*given))
    found = look_over(slide)
    assert len(sizes) > 8
    assert max(max(size) for size in sizes) < 130
    assert found.tissue.mean() == pytest.approx(0.375, abs=0.03)


def test_a_pyramid_is_a_slide_and_photographs_are_none(tmp_path: Path) -> None:
    photograph = np.zeros((40, 40, 3), np.uint8)
    tifffile.imwrite(tmp_path / "photograph.tif", photograph)
    tifffile.imwrite(tmp_path / "tiled.tif", photograph, tile=(16, 16))
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 40, 40, 3), np.uint8), photometric="rgb")
    (tmp_path / "text.tif").write_text("no image")
    content = write_slide(tmp_path / "slide.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) * 2 // 3])
    found = {p.name for p in tmp_path.glob("*.tif") if is_slide(p)}
    assert found == {"slide.tif", "cut.tif"}
    assert is_slide(tmp_path / "x.SVS")


@pytest.mark.parametrize("layout", [write_slide, write_strips, write_ome])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_slide_that_is_cut_off_is_an_error_at_once(
    tmp_path: Path, layout: Callable[[Path], Path], share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layout(tmp_path / "a.ome.tif")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"a\.ome\.tif (is truncated|cannot be opened)"):
        open_slide(path)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.tif"], "--out must name a folder"),
        (["a.tif", "--out", "x.csv"], "--out must name a folder"),
        (["a.tif", "--out", "x.parquet"], "--out must name a folder"),
        (["a.tif", "--out", "x.geojson"], "--out must name a folder"),
        (["a.tif", "--out", "out", "--by", "case"], "--by is for a CSV of images"),
        (["a.tif", "image.png", "--out", "out"], "Predict slides and images apart"),
        (["image.png", "--mpp", "0.5"], "--overlap are for whole slides"),
        (["a.tif", "--mpp", "0", "--out", "out"], "--mpp must be 0.02 to 20"),
        (["a.tif", "--overlap", "1", "--out", "out"], "--overlap must be 0 to 0.9"),
        (["a.tif", "--tile-mpp", "0.06", "--overlap", "0.9", "--out", "out"], "less than a pixel apart"),
        (["a.tif", "--tile-mpp", "10", "--out", "out"], "fewer than one tile"),
        (["a.tif", "folder/a.tif", "--out", "out"], "would both be written to"),
        (["bad.svs", "--out", "out"], "bad.svs is not a slide that OpenSlide can read"),
        (["missing.svs", "--out", "out"], "missing.svs does not exist"),
        (["a.tif", "bad.svs", "--out", "out"], "1 of 2 slides have no prediction"),
    ],
)
def test_a_mistake_is_one_sentence(predict: Predict, tmp_path: Path, arguments: list[str], words: str) -> None:
    write_slide(tmp_path / "a.tif")
    (tmp_path / "folder").mkdir()
    write_slide(tmp_path / "folder/a.tif")
    (tmp_path / "bad.svs").write_text("no slide")
    cv2.imwrite(str(tmp_path / "image.png"), painted()[:64, :64])
    with pytest.raises(BiopsyError, match=words):
        command(["predict", *arguments])
    assert (tmp_path / "out/a/summary.json").exists() == ("1 of 2" in words)


def test_a_folder_with_photographs_is_one_of_images(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mixed").mkdir()
    write_slide(tmp_path / "mixed/a.tif")
    cv2.imwrite(str(tmp_path / "mixed/image.png"), painted()[:64, :64])
    with suppress(DataError):  # the slide is a row with its reason
        command(["predict", "mixed"])
    assert "mixed/image.png,benign" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mpp", "known"), [(["0.5", "0.5"], True), (["0.5", ""], False), (["0.5", "0.25"], False), (["", ""], False)]
)
def test_a_model_knows_its_scale_where_all_its_images_had_one(tmp_path: Path, mpp: list[str], known: bool) -> None:
    labels = tmp_path / "data/interim/labels.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("image_id,mpp,width,height\n" + "".join(f"{i},{um},700,460\n" for i, um in enumerate(mpp)))
    card = CARD.model_copy(update={"data": {"labels": sha256(labels)}})
    for folder in ("models/m", "models/m/1-2"):  # of a cross-validation, a fold's own
        assert trained_scale(tmp_path / folder, card) == (Scale(0.5, 700, 460) if known else None)
    assert trained_scale(tmp_path / "models/m", CARD) is None  # trained on another table
