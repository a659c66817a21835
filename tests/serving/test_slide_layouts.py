"""Slides with a label before them or among their levels, other pixels or other colours: never wrong in silence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biopsy.cli import command
from biopsy.core.errors import MachineError, ParamsError
from biopsy.images.slides.find import find_slides
from biopsy.images.slides.reader import Slide, open_slide
from biopsy.images.slides.regions import class_at, read_regions
from painted_slides import GLASS, RED, painted, write_slide
from tiny_onnx import write_onnx

LABEL = np.full((64, 64, 3), RED, np.uint8)


def write_ome(path: Path, *images: tuple[np.ndarray, dict[str, Any]], **shared: Any) -> Path:
    with tifffile.TiffWriter(path, ome=True) as file:
        for pixels, about in images:
            options = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate"} | shared
            file.write(pixels, metadata={"axes": "YXS", **about}, **options)
    return path


def squares(um: float, unit: str = "µm") -> dict[str, Any]:
    return {f"PhysicalSize{axis}": um for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}


@pytest.mark.parametrize("of_label", [{}, squares(10)])
def test_a_label_before_the_slide_is_not_the_slide(tmp_path: Path, of_label: dict[str, Any]) -> None:
    slide = open_slide(write_ome(tmp_path / "a.ome.tif", (LABEL, of_label), (painted(), squares(0.5))))
    assert (slide.width, slide.height, slide.um_per_pixel) == (512, 256, 0.5)
    assert (slide.region(64, 64, 1, 1, (1, 1)) == RED).all()


def test_a_label_among_the_levels_is_never_read_as_tissue(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, pixels in enumerate((painted(), painted()[::4, ::4], LABEL)):
            file.write(pixels, tile=(64, 64), photometric="rgb", metadata=None, subfiletype=int(number > 0))
    slide = open_slide(tmp_path / "a.tif")
    assert [round(level) for level in slide.levels] == [1, 4]
    assert (slide.region(0, 0, 64, 64, (8, 8)) == GLASS).all()


@pytest.mark.parametrize(("size", "um"), [((2817, 2305), 4), ((100_001, 70_003), 32), ((300, 9), 8)])
def test_levels_of_rounded_sizes_are_all_kept(size: tuple[int, int], um: int) -> None:
    class Given:
        vendor, um_per_pixel = "tiff", None
        sizes = (size, (size[0] // um, max(1, size[1] // um)), (-(-size[0] // um), -(-size[1] // um)))

    assert len(Slide(Path("a.tif"), Given()).levels) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("about", "um"),
    [
        (squares(500, "nm"), 0.5),
        (squares(5e-5, "cm"), 0.5),
        (squares(5e-1), 0.5),
        ({**squares(0.5), "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"}, 0.5),
        ({**squares(0.5), "PhysicalSizeY": 1.0}, None),
        (squares(-0.5), None),
        (squares(0.5, "pixel"), None),
        (squares(500), None),
        ({"PhysicalSizeX": 0.5}, None),
    ],
)
def test_the_scale_of_ome_metadata_is_that_of_square_pixels_or_unknown(
    tmp_path: Path, about: dict[str, Any], um: float | None
) -> None:
    assert open_slide(write_ome(tmp_path / "a.ome.tif", (painted(), about))).um_per_pixel == pytest.approx(um)


@pytest.mark.parametrize("strips", [True, False])
def test_pixels_that_are_no_squares_have_no_scale(tmp_path: Path, strips: bool) -> None:
    how: dict[str, Any] = {"rowsperstrip": 8} if strips else {"tile": (64, 64)}
    scale: dict[str, Any] = {"resolution": (20_000, 10_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", painted(), photometric="rgb", metadata=None, **how, **scale)
    assert open_slide(tmp_path / "a.tif").um_per_pixel is None


def test_four_channels_that_are_no_rgb_are_not_taken_for_it(tmp_path: Path) -> None:
    pixels = np.dstack([255 - painted(), np.zeros((256, 512), np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="separated", rowsperstrip=8, metadata=None)
    with pytest.raises(Exception, match=r"no 8-bit RGB image \(uint8, YXS, SEPARATED\)"):
        open_slide(tmp_path / "a.tif")


def test_what_is_transparent_is_white_in_every_layout(tmp_path: Path) -> None:
    alpha = np.full((256, 512, 1), 255, np.uint8)
    alpha[:64] = 0
    pixels = np.dstack([np.where(alpha == 0, 0, painted()), alpha])
    options: dict[str, Any] = {"photometric": "rgb", "extrasamples": ["unassalpha"], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=8, **options)
    slide = open_slide(tmp_path / "a.tif")
    assert (slide.region(0, 0, 512, 64, (512, 64)) == 255).all()
    assert (slide.region(64, 64, 1, 1, (1, 1)) == RED).all()


def test_results_among_the_slides_are_no_slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_onnx(tmp_path / "exports/tiny.onnx")
    (tmp_path / "slides").mkdir()
    write_slide(tmp_path / "slides/a.tif")
    command(["predict", "slides", "--out", "slides"])
    assert find_slides(["slides"]) == [Path("slides/a.tif")]
    command(["predict", "slides", "--out", "slides"])
    assert sorted(path.name for path in (tmp_path / "slides").iterdir()) == ["a", "a.tif"]


def test_slides_beside_photographs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_slide(tmp_path / "a.tif")
    (tmp_path / "b.png").write_bytes(b"x")
    assert find_slides([str(tmp_path)]) == []
    assert "holds photographs (b.png) and 1 whole slide (a.tif), which is left out" in capsys.readouterr().err


def test_a_file_in_place_of_a_slides_folder_is_named_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from biopsy import cli

    monkeypatch.chdir(tmp_path)
    write_onnx(tmp_path / "exports/tiny.onnx")
    write_slide(tmp_path / "a.tif")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("mine")
    monkeypatch.setattr("sys.argv", ["biopsy", "predict", "a.tif", "--out", "out"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == MachineError.exit_code
    assert "error: out/a exists already, and is in the way." in capsys.readouterr().err
    assert (tmp_path / "out/a").read_text() == "mine"


def test_a_slide_too_coarse_for_the_tiles_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_onnx(tmp_path / "exports/tiny.onnx")
    write_slide(tmp_path / "a.tif", um=None)
    with pytest.raises(ParamsError, match=r"20 micrometres a pixel, and tiles are read at 0\.1: 200 times as fine"):
        command(["predict", "a.tif", "--out", "out", "--mpp", "20", "--tile-mpp", "0.1"])


RING = [[0, 0], [9, 0], [9, 9], [0, 9]]
SQUARE = {"type": "Polygon", "coordinates": [RING]}


@pytest.mark.parametrize(
    ("about", "geometry", "found"),
    [
        ({"name": "malignant"}, {"type": "Polygon", "coordinates": []}, None),
        ({"name": "malignant"}, {"type": "MultiPolygon", "coordinates": [[], [RING]]}, "malignant"),
        ({"name": "malignant"}, {"type": "GeometryCollection", "geometries": [SQUARE]}, "malignant"),
        ({"name": "malignant"}, None, None),
        ({"names": ["Tumor", "Positive"]}, SQUARE, "Tumor: Positive"),
    ],
)
def test_regions_as_other_versions_write_them_are_read(
    tmp_path: Path, about: dict[str, Any], geometry: Any, found: str | None
) -> None:
    feature = {"type": "Feature", "properties": {"classification": about}, "geometry": geometry}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert class_at(read_regions(tmp_path / "a.geojson"), 5, 5) == found
