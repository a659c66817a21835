"""The split stage, run as `dvc repro` runs it."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from label_tables import breakhis, invented

from biopsy.core.errors import BiopsyError, DataError
from biopsy.core.files import write_csv
from biopsy.tables.labels.scheme import write_scheme
from conftest import ROOT, assert_kind
from schemes import BREAKHIS

pytestmark = pytest.mark.usefixtures("quick_pictures")

TABLE = invented({"A": [9, 12, 7], "F": [20, 15, 9, 6], "DC": [30, 8, 8, 14, 22], "LC": [6, 6, 6, 5]})


@pytest.fixture
def prepare(tmp_path: Path, set_params: Callable[..., Path]) -> Callable[..., None]:
    """Write labels and parameters; `split__train=0.6` sets `split.train`."""

    def write(table: pd.DataFrame = TABLE, parts: bool = False, **overrides: object) -> None:
        set_params({key.replace("__", "."): value for key, value in overrides.items()})
        write_csv(tmp_path / "data/interim/labels.csv", table)
        write_scheme(tmp_path / "models/labels.json", BREAKHIS)
        (metadata := tmp_path / "data/raw/metadata.csv").parent.mkdir(parents=True, exist_ok=True)
        metadata.write_text(
            "path_to_image,Partition\na.png,train\nb.png,test\nc.png,\n" if parts else "path_to_image\na.png\n"
        )

    return write


@pytest.fixture
def split(prepare: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., str]:
    """Run the stage in this process, since starting one costs seconds; return what it printed."""

    def run(table: pd.DataFrame = TABLE, **overrides: object) -> str:
        prepare(table, **overrides)
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        runpy.run_path(str(ROOT / "stages/split.py"))["main"]()
        return capsys.readouterr().out

    return run


def outputs(root: Path) -> dict[str, bytes]:
    places = ("data/splits", "plots", "metrics")
    return {str(p.relative_to(root)): p.read_bytes() for place in places for p in (root / place).rglob("[!.]*.*")}


def test_the_default_writes_a_table_and_a_picture_per_protocol_and_shows_the_leak(
    tmp_path: Path, prepare, run_stage
) -> None:
    prepare()
    result = run_stage("split")
    assert result.returncode == 0, result.stderr
    assert sorted(outputs(tmp_path)) == [
        "data/splits/case.csv",
        "data/splits/drawn.json",
        "data/splits/image.csv",
        "metrics/split.json",
        "plots/split/case.png",
        "plots/split/image.png",
    ]
    metrics = json.loads((tmp_path / "metrics/split.json").read_text())
    tested = metrics["image"]["parts"]["test"]["images"]
    assert f"image: {tested} of {tested} test images come from slides seen in training" in result.stdout
    assert "case: 0 of " in result.stdout
    assert len((tmp_path / "metrics/split.json").read_text().splitlines()) < 200
    assert result.stdout.count("\n") == 1


def test_the_same_parameters_give_the_same_bytes_and_row_order_does_not_matter(tmp_path: Path, split) -> None:
    split()
    first = outputs(tmp_path)
    split(TABLE.sample(frac=1, random_state=2))
    assert outputs(tmp_path) == first
    split(seed=1)
    assert outputs(tmp_path)["data/splits/case.csv"] != first["data/splits/case.csv"]


def test_a_protocol_added_leaves_the_others_alone_and_one_taken_out_is_removed(tmp_path: Path, split) -> None:
    split()
    first = outputs(tmp_path)
    split(protocols=["slide", "case-1of3", "image", "case", "case-cv3x2"])
    more = outputs(tmp_path)
    assert {name: more[name] for name in first if ".json" not in name} == {
        name: content for name, content in first.items() if ".json" not in name
    }
    assert "data/splits/case-1of3.csv" in more
    assert more["data/splits/case-cv3x2.csv"].startswith(b"image_id,repeat_1,repeat_2,pixels\n")
    assert len(more["metrics/split.json"].splitlines()) < 400
    printed = split()
    assert outputs(tmp_path) == first
    assert "as `protocols` names them no longer: slide, case-1of3, case-cv3x2. If images are added" in printed
    assert "no longer" not in split()


def test_added_patients_are_placed_around_the_others_and_the_metrics_say_how_many_kept_their_part(
    tmp_path: Path, split
) -> None:
    old = TABLE[~TABLE["case"].isin(["A2", "DC4", "LC3"])]
    split(old, protocols=["case"])
    first = pd.read_csv(tmp_path / "data/splits/case.csv")
    printed = split(protocols=["case"])
    assert f"case: {len(old)} of the {len(old)} images of the earlier split kept their part, 34 were" in printed
    assert "draw all again: `rm -r data/splits`, then `dvc repro split`" in printed
    now = pd.read_csv(tmp_path / "data/splits/case.csv")
    assert (len(now), len(now.merge(first))) == (len(TABLE), len(old))
    metrics = json.loads((tmp_path / "metrics/split.json").read_text())
    assert metrics["case"]["kept"] == {"kept": len(old), "earlier": len(old)}


def test_protocol_image_needs_neither_slide_nor_case(tmp_path: Path, split) -> None:
    printed = split(TABLE.assign(slide="", case=""), protocols=["image"])
    assert "so leaks cannot be checked" in printed
    assert (tmp_path / "data/splits/image.csv").is_file()


def test_a_case_that_holds_most_of_the_images_is_named(split) -> None:
    whole = invented({"A": [90, 5, 5], "DC": [5, 5, 5]})
    assert f"split: warning: 90 of {len(whole)} images are of case A0." in split(whole, protocols=["case"])
    assert "warning" not in split(protocols=["case"])


def test_parts_that_the_table_has_and_nobody_asked_for_are_named(split) -> None:
    said = "the table's column 'Partition' says train and test, and is not used. To use it: -S 'split.column=Partition'"
    assert said in split(parts=True)
    assert "is not used" not in split()


def test_what_cannot_be_tested_is_listed_and_shown_but_is_no_error(tmp_path: Path, split) -> None:
    printed = split(invented({"A": [9, 12], "TA": [7], "DC": [30, 8, 8, 14, 22]}))
    metrics = json.loads((tmp_path / "metrics/split.json").read_text())
    assert metrics["case"]["not_estimable"]["A"] == "adenosis has 2 cases; 3 parts need 3"
    assert metrics["image"]["not_estimable"] == {}
    assert "not in every part: benign, A, TA" in printed


@pytest.mark.parametrize(
    ("table", "overrides", "words"),
    [
        (TABLE[TABLE["binary"] == "benign"], {}, ["all 78 images are 'benign'", "binary", "`tasks`"]),
        (TABLE[TABLE["slide"] == "A0"], {"tasks": ["binary"]}, ["all 9 images are 'benign'"]),
        (TABLE.assign(slide="1", case="1"), {}, ["protocol 'case' needs at least 3 cases", "has 1", "`protocols`"]),
        (TABLE.iloc[[0, -1]], {}, ["2 image(s) cannot fill three parts", "data.source"]),
        (invented({"A": [2], "DC": [2]}), {"protocols": ["image"]}, ["leaves no image for val", "`protocols`"]),
        (TABLE.assign(multiclass=""), {}, ["no label for task 'multiclass'", "labels.tasks.multiclass.column"]),
        (TABLE.iloc[:0], {}, ["no image is left to split"]),
        (TABLE, {"protocols": ["fold1"], "split__fold_table": "absent.csv"}, ["absent.csv", "split.fold_table"]),
        (TABLE, {"protocols": ["case-1of19"]}, ["at least 19 cases", "has 16", "case-1of19"]),
        (TABLE, {"protocols": ["case-cv19x2"]}, ["at least 19 cases", "has 16", "case-cv19x2"]),
        (TABLE, {"split__train": 0.8}, ["split.train + split.val + split.test must be 1"]),
    ],
)
def test_a_data_set_that_cannot_be_split_is_one_sentence_and_leaves_earlier_outputs_intact(
    tmp_path: Path, split, table: pd.DataFrame, overrides: dict[str, object], words: list[str]
) -> None:
    split()
    before = outputs(tmp_path)
    with pytest.raises(BiopsyError) as caught:
        split(table, **overrides)
    for word in words:
        assert word in str(caught.value)
    assert outputs(tmp_path) == before


def test_a_user_sees_the_sentence_and_the_next_good_run_succeeds(tmp_path: Path, prepare, split, run_stage) -> None:
    prepare(TABLE.assign(slide="1", case="1"))
    assert_kind(run_stage("split"), "protocol 'case' needs at least 3 cases")
    assert outputs(tmp_path) == {}
    assert split().startswith("split: 183 images.")


def test_a_leak_is_refused_also_when_assertions_are_off(tmp_path: Path) -> None:
    write_csv(tmp_path / "labels.csv", TABLE)
    code = """
from pathlib import Path
from biopsy.core.errors import run
from biopsy.core.files import read_csv
from biopsy.core.sections.data import Split
from biopsy.tables.split.summary import check_split
from biopsy.tables.split.splits import make_split
labels = read_csv(Path("labels.csv"))
run(lambda: check_split(labels, make_split(labels, ["binary"], "image", Split(), 0), "slide"))
"""
    result = subprocess.run(
        [sys.executable, "-O", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert_kind(result, "slide(s) on two sides", "defect")


def test_real_images_run_through_all_protocols_and_lack_the_official_test_part(split, real_data: Path) -> None:
    table = breakhis(real_data / "image_data_subset.csv")
    printed = split(table, protocols=["image", "slide", "case", "case-1of5", "case-2of5"])
    assert "63 of 63 test images come from slides seen in training" in printed
    with pytest.raises(DataError, match=r"protocol 'fold1' leaves no image for test.*test image of the fold table"):
        split(table, protocols=["fold1"], split__fold_table=str(real_data / "dsfoldTable.csv"))


def test_a_public_test_set_of_which_images_lack_is_said_to_be_a_part_of_it(
    tmp_path: Path, split, real_data: Path
) -> None:
    own = tmp_path / "own.csv"
    table = breakhis(real_data / "image_data_subset.csv")
    parts = ["test" if "-15570C-" in path else "train" for path in table["path"]]
    names = [path.rsplit("/", 1)[-1] for path in table["path"]]
    rows = "".join(f"{name},{part}\n" for name, part in zip(names, parts, strict=True))
    here = parts.count("test")
    lacking = f" {here} of the fold table's {here + 1} test images are here"
    for more, says in (("", ""), ("SOB_M_LC-14-1-100-001.png,test\n", lacking)):
        own.write_text("filename,split\n" + rows + more)
        split(table, protocols=["audit", "eva", "fold1", "case-cv3"], split__fold_table=str(own))
        summary = json.loads((tmp_path / "metrics/split.json").read_text())
        assert summary["audit"]["says"].endswith("; 118 of the published 1,653 test images are here")
        assert summary["eva"]["says"].endswith("; 35 of the published 1,324 test images are here")
        assert summary["fold1"]["says"].partition(";")[2] == says
        assert "are here" not in summary["case-cv3"]["says"]
