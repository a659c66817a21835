"""`ingest` and `impute` as a user meets them: a folder, a CSV, a command, and what is said when something is wrong."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from raw import HEADER, bomb, breakhis_name, draw, eight_images, obey_permissions, outputs, png, rows_of, write_raw

from biopsy.core.files import read_csv
from biopsy.tables.labels.breakhis import TYPES
from biopsy.tables.labels.scheme import read_scheme
from conftest import assert_kind
from schemes import BREAKHIS

pytestmark = pytest.mark.usefixtures("quick_pictures")

LOCAL = {
    "ingest.columns.path": "file",
    "labels.grammar": None,
    "labels.tasks.binary.column": "label",
    "labels.tasks.multiclass.column": "type",
    "ingest.columns.magnification": None,
    "ingest.columns.slide": "slide",
}
NAMES = list(eight_images())
GOOD = "\n".join([HEADER, *rows_of(eight_images())])


def metrics(root: Path, stage: str = "ingest") -> Any:
    return json.loads((root / "metrics" / f"{stage}.json").read_text())


def with_row(row: str) -> str:
    return f"{GOOD}\n{row}\n"


@pytest.mark.drawn
def test_ingest_and_impute_write_tables_counts_and_plots(
    tmp_path: Path, set_params: Callable, run_stage: Callable, run_alone: Callable
) -> None:
    set_params()
    rows = rows_of(eight_images())
    short = [rows[0].split(",")[0] + ",", *rows[1:], "", rows[3]]
    write_raw(tmp_path, eight_images(), "\n".join([HEADER, *short]))
    result = run_stage("ingest")
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "ingest: 8 of 9 images kept, of 8 slides and 8 cases; dropped: 1 repeated_row (ingest.duplicate_rows); "
        "1 short rows.\n"
    )
    table = read_csv(tmp_path / "data/interim/images.csv")
    facts = "row image_id path binary multiclass magnification mpp slide case"
    assert list(table.columns) == f"{facts} width height mode bytes sha256 pixels_sha256 brightness".split()
    assert list(table["image_id"]) == sorted(Path(name).stem for name in NAMES)
    counts = metrics(tmp_path)
    assert (counts["images"], counts["slides"], counts["cases"]) == (8, 8, 8)
    assert counts["labels"]["binary"] == {"benign": 4, "malignant": 4}
    assert counts["by_magnification"] == {"40": 8}
    assert counts["csv"]["duplicate_rows"] == {"count": 1, "rows": [11]}
    assert (counts["csv"]["blank_lines"], counts["synthetic"]) == (1, True)
    for name in ("classes", "sizes", "brightness"):
        assert min(Image.open(tmp_path / f"plots/ingest/{name}.png").size) > 150

    result = run_stage("impute")
    assert result.returncode == 0, result.stderr
    assert "gaps filled: 1 binary, 1 multiclass, 1 magnification; contradictions: 0." in result.stdout
    labels = read_csv(tmp_path / "data/interim/labels.csv")
    assert list(labels["multiclass"]) == list(TYPES)
    assert list(labels["slide"])[:2] == ["9000AB", "9101AB"]
    assert read_scheme(tmp_path / "models/labels.json") == BREAKHIS
    assert metrics(tmp_path, "impute")["filled"]["binary"] == {"count": 1, "rows": [2]}

    # A mistake in the CSV and a folder that may not be written to leave the outputs as they are; the next good run
    # succeeds, and the same input gives the same bytes.
    before = outputs(tmp_path)
    assert len(before) == 8
    (tmp_path / "data/raw/metadata.csv").write_text(with_row("nothing.png,Benign,Adenosis,40X"))
    assert_kind(run_stage("ingest"), "1 of 9 files", "row 10: nothing.png", "ingest.missing_files")
    assert outputs(tmp_path) == before
    (tmp_path / "data/raw/metadata.csv").write_text("\n".join([HEADER, *rows[1:]]))
    (tmp_path / "metrics").chmod(0o555)
    assert_kind(run_alone("ingest", preexec_fn=obey_permissions), "no permission for metrics/")
    (tmp_path / "metrics").chmod(0o755)
    assert outputs(tmp_path) == before
    write_raw(tmp_path, eight_images(), "\n".join([HEADER, *short]))
    assert run_stage("ingest").returncode == 0
    assert run_stage("impute").returncode == 0
    assert outputs(tmp_path) == before


def test_images_of_which_half_are_enlarged_are_named_as_of_several_scales(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    set_params()
    images = eight_images()
    for name in NAMES[::2]:
        pixels = np.asarray(Image.open(io.BytesIO(images[name])))
        images[name] = png(cv2.resize(pixels, None, fx=2, fy=2))
    write_raw(tmp_path, images, GOOD)
    result = run_stage("ingest")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ingest: warning: images of several scales, or so it seems: ")
    assert result.stdout.count("(4)") == 2


@pytest.mark.parametrize(
    ("csv", "words"),
    [
        pytest.param("", ["is empty"], id="empty"),
        pytest.param(HEADER + "\n", ["has a header but no rows"], id="header only"),
        pytest.param(
            "file,Benign or Malignant\na,b\n", ["no column 'path_to_image'", "ingest.columns.path"], id="column"
        ),
        pytest.param(GOOD.encode() + b"\n\xff\xfe.png,Benign", ["line 10", "0xFF", "UTF-8"], id="0xFF bytes"),
        pytest.param(GOOD.encode("utf-16-le"), ["zero byte", "UTF-16"], id="UTF-16 without mark"),
        pytest.param(with_row('"a.png,B'), ["row 10", "double quote"], id="open quote"),
        pytest.param(with_row("a.png,B,A,4,0X"), ["row 10: 5 cells", "double quotes"], id="long row"),
        pytest.param(with_row("a.png,Benine,A,40X"), ["row 10: 'Benine'", "'benign'"], id="unknown class"),
        pytest.param(with_row("a.png,,Lobular Carcinome,"), ["row 10", "'lobular carcinoma'"], id="unknown type"),
        pytest.param(with_row(f"{NAMES[4]},Benign,,"), ["row 6: 'malignant'", "row 10: 'benign'"], id="two labels"),
        pytest.param(with_row("/etc/hostname,B,A,40X"), ["row 10: '/etc/hostname'", "absolute"], id="absolute path"),
        pytest.param(with_row("../metadata.csv,B,A,40X"), ["row 10: '../metadata.csv'", "'..'"], id="path outside"),
        pytest.param(with_row("a\\b.png,B,A,40X"), ["row 10", "backslash"], id="backslash"),
    ],
)
def test_a_bad_csv_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, set_params: Callable, run_stage: Callable, csv: str | bytes, words: list[str]
) -> None:
    set_params()
    write_raw(tmp_path, eight_images(), csv)
    result = run_stage("ingest")
    assert_kind(result, "data/raw/metadata.csv", *words)
    assert len(result.stderr.strip().splitlines()) == 1
    assert outputs(tmp_path) == {}


def test_paths_in_another_spelling_find_their_file_and_are_counted(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    set_params()
    rows = rows_of(eight_images())
    rows[0], rows[1] = rows[0].replace(".png", ".PNG"), rows[1].replace(".png", "")
    write_raw(tmp_path, eight_images(), "\n".join([HEADER, *rows]))
    result = run_stage("ingest")
    assert result.returncode == 0, result.stderr
    assert "ingest: 8 of 8 images kept" in result.stdout
    matched = metrics(tmp_path)["matched_loosely"]
    assert (matched["count"], matched["by_reason"]) == (2, {"ending left out": 1, "letter case": 1})
    assert matched["listed"][1] == f"row 3: {Path(NAMES[1]).stem} is {NAMES[1]}"
    assert metrics(tmp_path)["not_in_csv"]["count"] == 0
    assert list(read_csv(tmp_path / "data/interim/images.csv")["path"]) == sorted(NAMES)

    twin = {f"x/{NAMES[0]}": png(draw(40)), f"y/{NAMES[0]}": png(draw(41))}
    (tmp_path / "data/raw/images" / NAMES[0]).unlink()
    write_raw(tmp_path, twin, "\n".join([HEADER, *rows]))
    assert_kind(run_stage("ingest"), "1 of 8 files", f"row 2: {Path(NAMES[0]).stem}.PNG (2 files fit: x/{NAMES[0]}")


def test_a_missing_csv_says_how_to_make_it(set_params: Callable, run_stage: Callable) -> None:
    set_params()
    assert_kind(run_stage("ingest"), "data/raw/metadata.csv is missing", "data.source")


def faulty_images(root: Path) -> dict[str, bytes | None]:
    """Every fault of an image file, beside whole ones of every mode; None: not written, or made by hand."""
    rgba = np.dstack([draw(13), draw(14)[..., :1]])
    cmyk, jpeg = io.BytesIO(), io.BytesIO()
    Image.fromarray(draw(15)).convert("CMYK").save(cmyk, "JPEG")
    Image.fromarray(draw(16)).save(jpeg, "JPEG")
    frames = [Image.fromarray(draw(seed)) for seed in (17, 18)]
    deep = cv2.imencode(".png", draw(19).astype(np.uint16) * 256)[1].tobytes()
    folder = root / "data/raw/images"
    (folder / "faults/folder.png").mkdir(parents=True)
    return {
        "faults/zero.png": b"",
        "faults/truncated.png": png(draw(10))[:2000],
        "faults/text.png": b"Dear colleague, please find attached",
        "faults/tiny.png": png(draw(11, 1, 1)),
        "faults/animated.png": png(frames[0], save_all=True, append_images=frames[1:]),
        "faults/bomb.png": bomb(),
        "faults/locked.png": png(draw(12)),
        "faults/folder.png": None,
        "faults/gone.png": None,
        "whole/rgba.png": png(rgba),
        "whole/cmyk.jpg": cmyk.getvalue(),
        "whole/jpeg.png": jpeg.getvalue(),
        "whole/deep.png": deep,
        "whole/palette.png": png(frames[0].quantize(8)),
        "whole/grey.png": png(draw(20)[..., 0]),
        "whole/two words, ünï 图.png": png(draw(21)),
    }


def test_every_fault_of_an_image_is_named_or_dropped_and_counted(
    tmp_path: Path, set_params: Callable, run_stage: Callable, run_alone: Callable
) -> None:
    images = faulty_images(tmp_path)
    rows = [f'"{name}",{"benign,A" if i % 2 else "malignant,DC"},S{i}' for i, name in enumerate(images)]
    write_raw(tmp_path, images, "\n".join(["file,label,type,slide", *rows]))
    (tmp_path / "data/raw/images/faults/locked.png").chmod(0)

    set_params(LOCAL)
    result = run_stage("ingest")
    assert_kind(result, "1 of 16 files", "row 10: faults/gone.png", "ingest.missing_files to drop")

    set_params({**LOCAL, "ingest.missing_files": "drop"})
    result = run_alone("ingest", preexec_fn=obey_permissions)
    kinds = (
        "1 animated, 1 broken, 1 empty, 1 no_permission, 1 not_a_file, 1 not_an_image, 1 too_many_pixels, 1 too_small"
    )
    assert_kind(
        result, "8 of 15 files", kinds, "row 2: faults/zero.png is empty (0 bytes)", "ingest.unreadable to drop"
    )
    assert outputs(tmp_path) == {}

    set_params({**LOCAL, "ingest.missing_files": "drop", "ingest.unreadable": "drop"})
    result = run_alone("ingest", preexec_fn=obey_permissions)
    assert result.returncode == 0, result.stderr
    counts = metrics(tmp_path)
    assert counts["images"] == 7
    assert ", ".join(f"{n} {reason}" for reason, n in counts["unreadable"]["by_reason"].items()) == kinds
    assert counts["missing_files"] == {"policy": "drop", "count": 1, "rows": [10]}
    assert counts["dropped"]["count"] == 9
    assert {"row": 7, "path": "faults/bomb.png", "reason": "too_many_pixels"} in counts["dropped"]["listed"]
    assert counts["not_rgb"]["by_mode"] == {"CMYK": 1, "L": 1, "P": 1, "RGB;16": 1, "RGBA": 1}
    assert counts["format_mismatch"] == {"count": 1, "listed": ["row 13: whole/jpeg.png is JPEG"]}
    assert "whole__two words, ünï 图" in list(read_csv(tmp_path / "data/interim/images.csv")["image_id"])
    assert run_stage("impute").returncode == 0
    assert metrics(tmp_path, "impute")["names_without_facts"] == 7


def test_duplicate_pixels_under_one_and_two_labels_are_reported(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    set_params()
    twin, both = breakhis_name("F", 77), breakhis_name("LC", 13)
    images = eight_images()
    images |= {twin: images[NAMES[1]], both: images[NAMES[4]]}
    write_raw(tmp_path, images, "\n".join([HEADER, *rows_of(images)]))
    result = run_stage("ingest")
    assert "7 of 10 images kept" in result.stdout
    assert "dropped: 2 conflict (ingest.conflicts), 1 duplicate (ingest.duplicates)" in result.stdout
    counts = metrics(tmp_path)
    assert counts["conflicts"]["by_slide"] == {"9404AB": {"DC": 1}, "9513AB": {"LC": 1}}
    assert counts["conflicts"]["listed"] == [[f"{NAMES[4][:-4]} (DC)", f"{both[:-4]} (LC)"]]
    assert counts["duplicates"]["listed"] == [[f"{NAMES[1][:-4]} (F)", f"{twin[:-4]} (F)"]]
    set_params({"ingest.conflicts": "error"})
    assert_kind(run_stage("ingest"), "2 images have equal pixels under two labels", both[:-4], "ingest.conflicts")


def test_utf16_semicolons_quoted_line_breaks_one_class_and_one_slide_pass_and_are_counted(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    set_params({**LOCAL, "tasks": ["binary"], "labels.tasks.multiclass.column": None})
    csv = 'FILE;Label;slide;notes\r\na.png;M;S1;"two\r\nlines"\r\nb.png;M;S1;'
    write_raw(tmp_path, {"a.png": png(draw(1)), "b.png": png(draw(2))}, csv.encode("utf-16"))
    assert run_stage("ingest").returncode == 0
    counts = metrics(tmp_path)
    assert (counts["csv"]["encoding"], counts["csv"]["separator"]) == ("UTF-16", "semicolon")
    assert counts["labels"]["binary"] == {"benign": 0, "malignant": 2}
    assert counts["slides"] == 1
    assert list(read_csv(tmp_path / "data/interim/images.csv")["row"]) == [2, 4]
    assert run_stage("impute").returncode == 0
    assert list(read_csv(tmp_path / "data/interim/labels.csv")["multiclass"]) == ["", ""]


def test_one_case_in_several_spellings_is_one_from_the_csv_to_the_split(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    plain = {"ingest.columns.slide": None, "ingest.columns.case": "patient", "tasks": ["binary"], "protocols": ["case"]}
    set_params({**LOCAL, **plain, "labels.tasks.multiclass.column": None})
    cases = ["P01", "p01 ", "Mü", "Mu\u0308", "007", "7", "p 01", "MÜ"]
    rows = [f"{i}.png,{'benign' if i % 2 else 'malignant'},{case}" for i, case in enumerate(cases)]
    write_raw(tmp_path, {f"{i}.png": png(draw(i)) for i in range(8)}, "\n".join(["file,label,patient", *rows]))
    assert run_stage("ingest").returncode == 0
    assert metrics(tmp_path)["csv"]["respelled"]["case"]["count"] == 4
    assert metrics(tmp_path)["slides"] == 4
    result = run_stage("impute")
    assert "impute: 8 images of 4 slides and 4 cases" in result.stdout
    why = "(leading zeros, '.0', punctuation, look-alike letters, TCGA barcodes of one patient)"
    assert (
        f"warning: cases that stay apart and may be one {why}: 007 / 7. Write an id that is one in one way"
        in result.stdout
    )
    assert "warning: slides" not in result.stdout  # they stand for the cases
    result = run_stage("split")
    assert result.returncode == 0, result.stderr
    table = read_csv(tmp_path / "data/interim/labels.csv").merge(read_csv(tmp_path / "data/splits/case.csv"))
    assert table.groupby("case")["part"].nunique().max() == 1
    assert sorted(table["case"]) == ["007", "7", *["Mü"] * 3, *["P01"] * 3]


def test_a_column_that_gives_each_image_a_case_of_its_own_is_told(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    plain = {"ingest.columns.slide": None, "ingest.columns.case": "patient", "tasks": ["binary"]}
    set_params({**LOCAL, **plain, "labels.tasks.multiclass.column": None})
    for cases, told in ((["P1", "P2", "P3"], True), (["P1", "P2", "P1"], False)):
        rows = [f"{i}.png,{'benign' if i % 2 else 'malignant'},{case}" for i, case in enumerate(cases)]
        images = {f"{i}.png": png(draw(i)) for i in range(3)}
        shutil.rmtree(tmp_path / "data/raw", ignore_errors=True)
        write_raw(tmp_path, images, "\n".join(["file,label,patient", *rows]))
        assert run_stage("ingest").returncode == 0
        said = run_stage("impute").stdout
        assert ("warning: each image has a case of its own in the column 'patient'" in said) == told


def test_labels_and_parts_that_need_a_map_reach_the_split_and_what_leaks_is_said(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    of_csv = {
        "tasks": ["label"],
        "protocols": ["given"],
        "labels": {
            "tasks": {"label": {"column": "y", "classes": ["benign", "malignant"]}},
            "map": {0: "benign", 1: "malignant"},
        },
        "ingest.columns": {"path": "file", "magnification": None, "case": "patient"},
        "split.column": "fold",
        "split.map": {0: "train", 2: "test"},
    }
    set_params(of_csv)
    rows = [f"{i}.png,{i % 2},P{i % 3},{2 * (i > 5)}" for i in range(9)]
    write_raw(tmp_path, {f"{i}.png": png(draw(i)) for i in range(9)}, "\n".join(["file,y,patient,fold", *rows]))
    for stage in ("ingest", "impute", "split"):
        result = run_stage(stage)
        assert result.returncode == 0, result.stderr
    assert metrics(tmp_path)["labels"] == {"label": {"benign": 5, "malignant": 4}}
    assert metrics(tmp_path, "impute")["unlabelled"]["left"] == {"label": 0}
    labels = read_csv(tmp_path / "data/interim/labels.csv")
    assert list(labels["label"]) == ["benign", "malignant"] * 4 + ["benign"]
    parts = read_csv(tmp_path / "data/splits/given.csv").set_index("image_id")["part"]
    assert set(parts[["6", "7", "8"]]) == {"test"}
    assert set(parts[[str(i) for i in range(6)]]) == {"train", "val"}
    seen = metrics(tmp_path, "split")["given"]["test_images_seen"]["cases"]
    assert seen > 0
    assert f"given: {seen} of 3 test images come from" in result.stdout

    set_params({**of_csv, "labels": {**of_csv["labels"], "map": {0: "benign"}}})
    assert_kind(
        run_stage("ingest"), "4 rows with a label that is not a class of task 'label' (row 3: '1'", "labels.map={1:"
    )


def test_labels_that_contradict_or_are_lacking_stop_impute(
    tmp_path: Path, set_params: Callable, run_stage: Callable
) -> None:
    set_params()
    images = eight_images() | {"holiday.png": png(draw(30))}
    rows = rows_of(eight_images())
    rows[4] = rows[4].replace("Malignant", "Benign")
    write_raw(tmp_path, images, "\n".join([HEADER, *rows, "holiday.png,Benign,Adenosis,40X"]))
    assert run_stage("ingest").returncode == 0
    before = outputs(tmp_path)
    assert_kind(
        run_stage("impute"), "data/raw/metadata.csv", "row 6: binary 'benign', file name 'malignant'", "trust_csv"
    )
    assert outputs(tmp_path) == before
    set_params({"impute.contradiction": "trust_name", "protocols": ["case"]})
    assert run_stage("impute").returncode == 0
    assert_kind(run_stage("split"), "1 of 9 images have no case (holiday.png)", "ingest.columns.case")


def test_the_full_csv_over_the_real_subset_is_one_counted_error_and_runs_with_drop(
    tmp_path: Path, real_data: Path, set_params: Callable, run_stage: Callable
) -> None:
    set_params()
    write_raw(tmp_path, {}, (real_data / "image_data.csv").read_bytes())
    shutil.rmtree(tmp_path / "data/raw/images")
    (tmp_path / "data/raw/images").symlink_to(real_data)
    assert_kind(run_stage("ingest"), "7,488 of 7,909 files", "row 2: BreaKHis_v1/", "set ingest.missing_files to drop")
    set_params({"ingest.missing_files": "drop"})
    result = run_stage("ingest")
    assert "ingest: 421 of 7,909 images kept, of 35 slides and " in result.stdout
    assert "dropped: 7,488 missing (ingest.missing_files); 4 short rows." in result.stdout
    counts = metrics(tmp_path)
    assert counts["missing_files"]["count"] == 7488
    assert counts["by_size"] == {"700x460": 377, "500x328": 25, "700x456": 19}
    result = run_stage("impute")
    assert "gaps filled: 1 binary, 1 multiclass, 1 magnification; contradictions: 0." in result.stdout
    assert metrics(tmp_path, "impute")["labels"] == counts["labels"]
