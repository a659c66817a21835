import io
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from raw import draw, png

from biopsy.core.errors import DataError
from biopsy.core.sections.data import Ingest
from biopsy.images.decode import Picture, hash_pixels
from biopsy.tables import measure
from biopsy.tables.audit import Audit, dropped_in_words, mixed_scales
from biopsy.tables.duplicates import resolve, slides_under_two_labels
from biopsy.tables.metadata import Metadata
from biopsy.tables.names import count_groups
from schemes import BREAKHIS

NAMELESS = BREAKHIS.model_copy(update={"grammar": None})
COLUMNS = ["image_id", "binary", "multiclass", "slide", "pixels_sha256"]


def table_of(paths: list[str]) -> Metadata:
    table = pd.DataFrame({"row": range(2, len(paths) + 2), "path": paths})
    facts = dict.fromkeys(("binary", "multiclass", "magnification", "mpp", "slide", "case"), "")
    return Metadata(table.assign(**facts), NAMELESS, {})


def audited(folder: Path, images: dict[str, bytes], **settings: Any) -> Audit:
    for name, data in images.items():
        (folder / name).write_bytes(data)
    audit = Audit(table_of(list(images)), folder, Ingest(**settings), Path("metadata.csv"))
    audit.run()
    return audit


def equal(*images: tuple[str, str, str, str]) -> pd.DataFrame:
    """Images (id, class, subtype, slide) of equal pixels, beside one of other pixels."""
    return pd.DataFrame([(*image, "same") for image in images] + [("z", "benign", "A", "9", "other")], columns=COLUMNS)


def test_an_image_is_measured_and_sorted_by_its_id(tmp_path: Path) -> None:
    grey = np.full((40, 50, 3), (90, 100, 110), np.uint8)
    audit = audited(tmp_path, {"b.png": png(draw(1)), "a.png": png(grey)})
    assert list(audit.images["image_id"]) == ["a", "b"]
    first = audit.images.iloc[0]
    assert (first["width"], first["height"], first["mode"], first["brightness"]) == (50, 40, "RGB", 100.0)
    assert first["pixels_sha256"] == hash_pixels(grey)
    assert first["bytes"] == (tmp_path / "a.png").stat().st_size


def test_equal_pixels_in_other_bytes_are_duplicates_and_the_first_id_stays(tmp_path: Path) -> None:
    image = draw(1)
    files = {"c.png": png(image), "b.png": png(image, compress_level=1), "a.png": png(draw(2))}
    audit = audited(tmp_path, files)
    assert (tmp_path / "b.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    assert list(audit.images["image_id"]) == ["a", "b"]
    assert audit.counts["duplicates"]["dropped"] == 1
    assert audit.counts["dropped"]["listed"] == [{"row": 2, "path": "c.png", "reason": "duplicate"}]
    kept = audited(tmp_path, files, duplicates="keep")
    assert list(kept.images["image_id"]) == ["a", "b", "c"]
    assert (kept.counts["duplicates"]["groups"], kept.counts["duplicates"]["dropped"]) == (1, 0)


def test_no_more_images_are_in_memory_than_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"{i}.png" for i in range(100)]
    for i, path in enumerate(paths):
        (tmp_path / path).write_bytes(png(draw(i)))
    alive: weakref.WeakSet[Picture] = weakref.WeakSet()
    most, read = 0, measure.read_picture

    def counted(path: Path, max_pixels: int) -> Picture:
        nonlocal most
        picture = read(path, max_pixels)
        alive.add(picture)
        most = max(most, len(alive))
        return picture

    monkeypatch.setattr(measure, "read_picture", counted)
    monkeypatch.setattr(measure.os, "cpu_count", lambda: 3)
    assert len(list(measure.measure_all(tmp_path, paths, Ingest()))) == 100
    assert 0 < most <= 3


def test_broken_files_do_not_stay_in_memory(tmp_path: Path) -> None:
    paths = [f"{i}.png" for i in range(60)]
    for path in paths:
        (tmp_path / path).write_bytes(png(draw(0))[:500] + bytes(1_000_000))
    tracemalloc.start()
    failures = list(measure.measure_all(tmp_path, paths, Ingest()))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {failure.reason for failure in failures if isinstance(failure, measure.Failure)} == {"broken"}
    assert held < 10_000_000


def test_files_that_the_csv_does_not_name_are_counted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "left.PNG").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    audit = audited(tmp_path, {"a.png": png(draw(1))})
    assert audit.counts["not_in_csv"] == {"count": 1, "listed": ["other/left.PNG"]}


def test_images_that_are_not_rgb_are_dropped_or_refused_where_params_say_so(tmp_path: Path) -> None:
    files = {"a.png": png(draw(1)), "b.png": png(draw(2)[..., 0])}
    audit = audited(tmp_path, files, not_rgb="drop")
    assert list(audit.images["image_id"]) == ["a"]
    assert audit.counts["dropped"]["by_reason"] == {"not_rgb": 1}
    with pytest.raises(DataError, match=r"1 of 2 files .* not 8-bit RGB \(row 3: b.png L\).*ingest.not_rgb"):
        audited(tmp_path, files, not_rgb="error")


def test_black_rows_at_an_end_of_a_file_without_checksums_are_counted(tmp_path: Path) -> None:
    cut = draw(0).copy()
    cut[-5:] = 0
    files: dict[str, bytes] = {}
    for kind in ("TIFF", "BMP", "PNG"):
        for name, image in (("cut", cut), ("whole", draw(1))):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, kind)
            files[f"{kind}-{name}.{kind.lower()}"] = stream.getvalue()
    stream, planes = io.BytesIO(), draw(2).copy()
    planes[-7:, :, 2] = 0  # of colours that are stored one after the other, the last one's end is lost
    planes[..., 0] = 0
    tifffile.imwrite(stream, np.moveaxis(planes, -1, 0), photometric="rgb", planarconfig="separate")
    files["planes.tif"] = stream.getvalue()
    found = audited(tmp_path, files, duplicates="keep").counts["black_rows"]
    listed = ["row 2: TIFF-cut.tiff (5 rows)", "row 4: BMP-cut.bmp (5 rows)", "row 8: planes.tif (7 rows)"]
    assert found == {"count": 3, "listed": listed}


def test_all_files_missing_asks_for_the_folder(tmp_path: Path) -> None:
    audit = Audit(table_of(["a.png", "b.png"]), tmp_path, Ingest(), Path("metadata.csv"))
    with pytest.raises(DataError, match=r"2 of 2 files .* Are the paths relative to"):
        audit.run()


def test_no_usable_image_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable image is left of 2 rows of metadata.csv: 1 broken, 1 empty"):
        audited(tmp_path, {"a.png": b"", "b.png": png(draw(1))[:500]}, unreadable="drop")


def test_equal_pixels_under_two_labels_are_dropped_on_both_sides_and_counted_by_slide() -> None:
    images = equal(("a", "malignant", "DC", "13412"), ("b", "malignant", "LC", "13412"))
    dropped, counts = resolve(images, Ingest(), BREAKHIS)
    assert dropped == {"a": "conflict", "b": "conflict"}
    assert counts["conflicts"]["by_slide"] == {"13412": {"DC": 1, "LC": 1}}
    assert counts["conflicts"]["listed"] == [["a (DC)", "b (LC)"]]
    assert counts["duplicates"]["groups"] == 0


def test_a_conflict_is_an_error_that_lists_both_sides_where_params_say_so() -> None:
    images = equal(("a", "malignant", "DC", "1"), ("b", "benign", "", "2"))
    with pytest.raises(
        DataError, match=r"2 images have equal pixels under two labels \(a \(DC\) = b \(benign\)\)"
    ) as caught:
        resolve(images, Ingest(conflicts="error"), BREAKHIS)
    assert "ingest.conflicts" in str(caught.value)


def test_a_conflict_keeps_the_side_that_params_name_and_that_side_once() -> None:
    images = equal(("a", "malignant", "LC", "1"), ("b", "malignant", "DC", "1"), ("c", "malignant", "DC", "1"))
    assert resolve(images, Ingest(conflicts="keep_DC"), BREAKHIS)[0] == {"a": "conflict", "c": "duplicate"}
    assert resolve(images, Ingest(conflicts="keep_LC"), BREAKHIS)[0] == {"b": "conflict", "c": "conflict"}


def test_a_conflict_that_the_named_label_does_not_settle_is_dropped_on_both_sides() -> None:
    images = equal(("a", "malignant", "LC", "1"), ("b", "malignant", "DC", "1"))
    for policy in ("keep_A", "keep_malignant"):
        assert resolve(images, Ingest(conflicts=policy), BREAKHIS)[0] == {"a": "conflict", "b": "conflict"}
    images = equal(("a", "benign", "F", "1"), ("b", "malignant", "DC", "1"))
    assert resolve(images, Ingest(conflicts="keep_benign"), BREAKHIS)[0] == {"b": "conflict"}


def test_an_unknown_label_contradicts_nothing() -> None:
    images = equal(("a", "malignant", "DC", "1"), ("b", "malignant", "", "1"), ("c", "", "", "2"))
    dropped, counts = resolve(images, Ingest(), BREAKHIS)
    assert dropped == {"b": "duplicate", "c": "duplicate"}
    assert counts["duplicates"]["across_slides"] == 1


def test_a_slide_under_two_labels_is_counted_though_its_pixels_differ() -> None:
    images = pd.DataFrame(
        [("a", "malignant", "DC", "1", "x"), ("b", "malignant", "LC", "1", "y"), ("c", "benign", "A", "2", "z")],
        columns=COLUMNS,
    )
    assert slides_under_two_labels(images, BREAKHIS) == {"1": {"DC": 1, "LC": 1}}
    assert resolve(images, Ingest(), BREAKHIS)[0] == {}


def test_every_reason_for_leaving_an_image_out_names_the_parameter_that_decides() -> None:
    assert dropped_in_words({}) == "none"
    for reason, parameter in (("conflict", "conflicts"), ("missing", "missing_files"), ("too_small", "unreadable")):
        assert dropped_in_words({reason: 1030}) == f"1,030 {reason} (ingest.{parameter})"
        assert parameter in Ingest.model_fields


@pytest.mark.parametrize(
    ("slides", "cases", "words"),
    [(0, 0, "unknown slides and cases"), (10, 4, "10 slides and 4 cases"), (1, 1, "1 slide and 1 case")],
)
def test_unknown_slides_are_not_called_none(slides: int, cases: int, words: str) -> None:
    assert count_groups(slides, cases) == words


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([(350, 230, "")] * 5 + [(1400, 920, "")] * 4, "350 x 230 (5), 1400 x 920 (4) pixels"),
        ([(512, 512, "")] * 5 + [(256, 256, "")] * 5, "256 x 256 (5), 512 x 512 (5) pixels"),
        ([(700, 460, "0.25")] * 5 + [(700, 460, "0.50")] * 4, "0.25 (5), 0.5 (4) micrometres per pixel"),
        ([(350, 230, "0.5")] * 5 + [(1400, 920, "0.5")] * 4, ""),  # a scale that is known counts more than a size
        ([(700, 460, "")] * 5 + [(700, 456, "")] * 4 + [(500, 328, "")] * 4, ""),  # BreakHis
        ([(700, 460, "")] * 50 + [(1400, 920, "")] * 2, ""),  # two exceptions
        ([(400, 300, "")] * 5 + [(1000, 300, "")] * 4, ""),  # cropped
    ],
)
def test_images_of_several_scales_are_named(images: list[tuple[int, int, str]], words: str) -> None:
    assert mixed_scales(pd.DataFrame(images, columns=["width", "height", "mpp"])) == words
