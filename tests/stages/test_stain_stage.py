"""`stages/stain.py`: fitted on training images alone, counted, resumed, and nothing at all where no method is named."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from stained import tissue

from biopsy.core import shards
from biopsy.core.errors import DataError, MachineError, ParamsError
from biopsy.core.files import write_csv
from biopsy.core.params import read_params
from biopsy.core.protocol import parse_protocol
from biopsy.core.sections.data import Resize
from biopsy.images.decode import hash_pixels
from biopsy.images.preparation.record import Preparation, images_of, read_preparation, write_preparation
from biopsy.images.stained_tree import NO_TARGET
from biopsy.tables.split.folds import parts_of
from conftest import ROOT, assert_kind
from tiny import read


class Project:
    """Twelve stained images, resized already, and their split; the stage is run in this process."""

    def __init__(self, root: Path, set_params: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.set_params, self.capsys, self.made = root, set_params, capsys, ""
        self.warned = ""
        parts = ["train"] * 7 + ["val"] * 2 + ["test"] * 3
        rows = [(f"i{i:02}", "benign", "A" if i % 2 else "F", part) for i, part in enumerate(parts)]
        self.table = pd.DataFrame(rows, columns=["image_id", "class", "subtype", "part"])
        for i in range(len(self.table)):
            self.write(i, tissue(i, strength=0.6 + 0.05 * i, hue=0.01 * i))
        write_csv(root / "data/splits/case.csv", self.table[["image_id", "part"]])
        write_preparation(root / "data/resized", Preparation(max_pixels=10**6, resize=Resize(size=64)))

    def path(self, tree: str, i: int) -> Path:
        row = self.table.iloc[i]
        return self.root / "data" / tree / f"{row['image_id']}.png"

    def write(self, i: int, image: np.ndarray) -> None:
        """Put an image into the resized tree, and its hash into the labels."""
        path = self.path("resized", i)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
        images = [cv2.imread(str(self.path("resized", k)), cv2.IMREAD_COLOR_RGB) for k in range(len(self.table))]
        hashes = ["" if image is None else hash_pixels(image) for image in images]
        labels = self.table.drop(columns="part").assign(pixels_sha256=hashes)
        write_csv(self.root / "data/interim/labels.csv", labels)

    def run(self, method: str, reference: Any = None, protocol: str = "case") -> dict[str, Any]:
        """Run the stage; return its metrics, and keep in `made` what it says to have made and kept."""
        path = self.set_params({"stain.method": method, "stain.reference": reference and str(reference)})
        runpy.run_path(str(ROOT / "stages/stain.py"))["stain"](read_params(path), protocol, self.root)
        printed = self.capsys.readouterr()
        self.made = printed.out.rpartition(": ")[0].rpartition(": ")[2].partition(";")[0]
        self.warned = printed.err
        return read(self.root / f"metrics/stain-{protocol}.json")

    def tree(self, name: str = "case") -> dict[str, bytes]:
        base = self.root / "data/stained" / name
        return {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}


@pytest.fixture
def project(tmp_path: Path, set_params: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, set_params, capsys)


def test_by_default_the_resized_images_are_used_and_nothing_is_written_but_a_note(project: Project) -> None:
    assert project.run("none") == {"method": "none"}
    assert list(project.tree()) == ["preparation.json"]
    tree, preparation = images_of(project.root, "case")
    assert (tree, preparation) == (project.root / "data/resized", read_preparation(tree))


@pytest.mark.parametrize("method", ["reinhard", "macenko"])
def test_the_stained_tree_lies_like_the_resized_one_and_a_second_run_makes_nothing(
    project: Project, method: str
) -> None:
    counts = project.run(method)
    assert (counts["images"], counts["normalised"], counts["fitted_on"]) == (12, 12, 7)
    assert project.made == "12 made, 0 kept"
    first = project.tree()
    assert {*first} == {*(f"i{i:02}.png" for i in range(12)), "preparation.json"}
    folder, preparation = images_of(project.root, "case")
    assert folder == project.root / "data/stained/case"
    assert preparation.stain is not None
    assert (preparation.stain.method, len(preparation.stain.spreads)) == (method, 3 if method == "reinhard" else 2)
    resized = read_preparation(project.root / "data/resized")
    assert preparation == resized.model_copy(update={"stain": preparation.stain})
    assert project.run(method) == counts  # metrics that depended on a stop would not be comparable
    assert project.made == "0 made, 12 kept"
    assert project.tree() == first


def test_each_fold_is_brought_to_the_mean_of_its_own_training_images(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = project.table[["image_id"]].assign(repeat_1=np.arange(12) % 3 + 1)
    write_csv(project.root / "data/splits/case-cv3.csv", folds)
    counts = project.run("macenko", protocol="case-cv3")
    assert project.made == "36 made, 0 kept"
    assert len(project.tree("case-cv3")) == 36 + 4
    for fold in parse_protocol("case-cv3").folds:
        write_csv(project.root / "data/splits/case.csv", parts_of(folds, fold))
        assert project.run("macenko") == counts["folds"][fold.name]
        assert project.tree(f"case-cv3/{fold.name}") == project.tree()
        tree, preparation = images_of(project.root, "case-cv3", fold.name)
        assert tree == project.root / "data/stained/case-cv3" / fold.name
        assert preparation == images_of(project.root, "case")[1]
    assert project.run("macenko", protocol="case-cv3") == counts
    assert project.made == "0 made, 36 kept"
    monkeypatch.setattr(shards, "SINGLE_FILES", 35)
    with pytest.raises(ParamsError, match=r"'case-cv3'.* 36 images, more than .*Set stain\.reference"):
        project.run("macenko", protocol="case-cv3")
    project.run("none", protocol="case-cv3")
    assert list(project.tree("case-cv3")) == ["preparation.json"]


def test_a_fold_whose_training_images_have_no_stain_keeps_its_images_as_they_are(project: Project) -> None:
    folds = project.table[["image_id"]].assign(repeat_1=np.arange(12) % 3 + 1)
    write_csv(project.root / "data/splits/case-cv3.csv", folds)
    own = project.table[parts_of(folds, parse_protocol("case-cv3").folds[0])["part"] == "train"].index
    for i in own:
        project.write(i, np.full((64, 64, 3), 250, np.uint8))
    counts = project.run("macenko", protocol="case-cv3")["folds"]
    assert [counts[fold]["fitted_on"] > 0 for fold in ("1-1", "1-2", "1-3")] == [False, True, True]
    assert images_of(project.root, "case-cv3", "1-1")[0] == project.root / "data/resized"
    assert images_of(project.root, "case-cv3", "1-2")[0] == project.root / "data/stained/case-cv3/1-2"
    assert project.made == "24 made, 0 kept"


def test_a_disk_without_room_for_the_images_stops_it_before_it_begins(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(MachineError, match=r"protocol case take about 0\.0 GB, and 0\.0 GB .* stain\.method to none"):
        project.run("macenko")
    assert not (project.root / "data/stained").exists()
    monkeypatch.undo()
    project.run("macenko")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    project.run("macenko")  # they are there


def test_other_code_makes_all_anew_and_code_that_makes_no_pixels_nothing(project: Project, edit_code: Any) -> None:
    project.run("reinhard")
    for name, made in (("image_tree", 0), ("stain", 12), ("stains/reinhard", 12), ("stained_tree", 12), ("resize", 12)):
        edit_code(f"biopsy/images/{name}.py")
        project.run("reinhard")
        assert project.made == f"{made} made, {12 - made} kept", name


def test_a_changed_test_image_leaves_what_was_fitted_and_a_changed_training_image_does_not(project: Project) -> None:
    project.run("reinhard")
    before = project.tree()
    for i in (7, 11):  # validation, test
        project.write(i, tissue(99, strength=1.4, hue=0.1))
    project.run("reinhard")
    after = project.tree()
    assert after["preparation.json"] == before["preparation.json"]
    assert project.made == "2 made, 10 kept"
    assert sum(after[name] != before[name] for name in before) == 2
    project.write(0, tissue(99, strength=1.4, hue=0.1))
    project.run("reinhard")
    assert project.made == "12 made, 0 kept"
    assert project.tree()["preparation.json"] != before["preparation.json"]


def test_images_that_keep_their_own_stain_are_counted_by_part_and_reason_each_time(project: Project) -> None:
    white = np.full((64, 64, 3), 250, np.uint8)
    project.write(1, white)
    project.write(11, white)
    for _ in range(2):  # made, then kept
        counts = project.run("reinhard")
        assert counts["kept_their_stain"] == {"train": {"no tissue": 1}, "val": {}, "test": {"no tissue": 1}}
        assert (counts["normalised"], counts["fitted_on"], counts["not_fitted_on"]) == (10, 6, {"no tissue": 1})
    assert project.path("stained/case", 11).read_bytes() == project.path("resized", 11).read_bytes()


def test_going_back_to_none_takes_the_images_away(project: Project) -> None:
    project.run("reinhard")
    project.run("none")
    assert list(project.tree()) == ["preparation.json"]


def test_an_unknown_method_is_one_sentence_with_the_nearest_name(project: Project) -> None:
    with pytest.raises(
        ParamsError, match=r"stain\.method must be one of macenko, none, reinhard.*'renhard'.*'reinhard'"
    ):
        project.run("renhard")


def test_a_tree_that_was_not_finished_is_not_taken_for_whole(project: Project) -> None:
    project.run("reinhard")
    (project.root / "data/stained/case/preparation.json").unlink()
    with pytest.raises(DataError, match=r"preparation\.json is missing\. Run `dvc repro`"):
        images_of(project.root, "case")


def test_one_reference_image_is_matched_and_named(project: Project) -> None:
    reference = project.root / "reference.png"
    cv2.imwrite(str(reference), tissue(50, strength=1.1)[..., ::-1])
    counts = project.run("reinhard", reference)
    assert counts["reference"]["file"] == "reference.png"
    assert counts["fitted_on"] == 1
    project.write(0, tissue(99))
    assert project.run("reinhard", reference)["spreads"] == counts["spreads"]


@pytest.mark.parametrize("method", ["reinhard", "macenko"])
def test_training_images_without_any_stain_keep_all_images_as_they_are_and_one_sentence_says_so(
    project: Project, method: str
) -> None:
    project.run(method)
    for i in range(7):
        project.write(i, np.full((64, 64, 3), 250, np.uint8))
    counts = project.run(method)
    told = {"train": {NO_TARGET: 7}, "val": {NO_TARGET: 2}, "test": {NO_TARGET: 3}}
    assert (counts["normalised"], counts["fitted_on"], counts["kept_their_stain"]) == (0, 0, told)
    resized = project.root / "data/resized"
    assert images_of(project.root, "case") == (resized, read_preparation(resized))
    assert list(project.tree()) == ["preparation.json"]
    assert re.search(rf"warning: stain case: {method} found no training image .*7 no tissue.*keep", project.warned)


def test_a_reference_that_cannot_be_matched_is_one_sentence_and_the_earlier_tree_stays(project: Project) -> None:
    project.run("reinhard")
    before = project.tree()
    white = project.root / "white.png"
    cv2.imwrite(str(white), np.full((64, 64, 3), 255, np.uint8))
    for reference, words in (
        (white, r"stain\.reference: .*white\.png cannot be matched \(no tissue\).*null"),
        (project.root / "nowhere.png", r"stain\.reference: .*nowhere\.png does not exist.*null"),
        (project.root / "params.yaml", r"stain\.reference: .*params\.yaml is not an image"),
        (project.path("resized", 11), r"stain\.reference: .*i11 of the test part.*null"),
    ):
        with pytest.raises(ParamsError, match=words):
            project.run("reinhard", reference)
        assert project.tree() == before
    assert project.run("reinhard", project.path("resized", 0))["fitted_on"] == 1  # a training image may be one


def test_a_missing_or_broken_resized_image_is_one_sentence(project: Project) -> None:
    project.path("resized", 11).write_bytes(b"no png")
    with pytest.raises(DataError, match=r"i11\.png cannot be read.*dvc repro resize"):
        project.run("reinhard")
    project.path("resized", 11).unlink()
    with pytest.raises(DataError, match=r"i11\.png is missing.*dvc repro resize"):
        project.run("reinhard")


def test_stain_without_colours_is_refused_before_any_work(
    project: Project, set_params: Callable[..., Path], run_stage: Callable[..., Any]
) -> None:
    set_params({"stain.method": "macenko", "resize.structure": "laplacian"})
    assert_kind(run_stage("stain", "--protocol", "case"), "stain.method", "macenko", "resize.structure", "laplacian")
    assert not (project.root / "data/stained").exists()
