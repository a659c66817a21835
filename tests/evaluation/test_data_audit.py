"""Planted faults in data are found and shown: a wrong label, an image unlike the others, a class that is a slide."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biopsy.core.files import read_csv, write_csv
from biopsy.core.params import Params
from biopsy.evaluation.appearance import (
    LOOKS,
    appearance_table,
    features_of,
    nearest_images,
    principal_components,
)
from biopsy.evaluation.report.audit import audits, label_errors, unlike_images
from biopsy.evaluation.report.copies import alike, near_copies, shrink
from biopsy.evaluation.report.embedding import describe_features
from biopsy.evaluation.report.page import render
from biopsy.evaluation.report.pairs import confused_pairs
from biopsy.evaluation.report.results import Run, read_run
from report_project import write_project


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """A project of 18 cases with four images each, whose model is right about all of them."""
    root = tmp_path_factory.mktemp("audit")
    params = write_project(root, ["k0", "k1", "k2"], ["case"], 18)
    path = root / "data/predictions/tissue-case.csv"
    table = pd.read_csv(path, dtype={"magnification": str})
    right = {f"p_k{i}": np.where(table["truth"] == f"k{i}", 0.9, 0.05) for i in range(3)}
    write_csv(path, table.assign(**right, predicted=table["truth"]))
    return root, params


@pytest.fixture
def run(base: tuple[Path, Params], tmp_path: Path) -> Run:
    """Its run, in a copy whose tables a test may change."""
    shutil.copytree(base[0], tmp_path / "run", copy_function=os.link)
    return read_run(base[1], tmp_path / "run")


def change(run: Run, name: str, **cells: object) -> Run:
    """Write other cells into the row of an image: those of its predictions, or of its looks."""
    for ending in ("", "-images"):
        path = run.root / f"data/predictions/tissue-case{ending}.csv"
        table = pd.read_csv(path, dtype={"magnification": str})
        for column in set(cells) & set(table):
            table.loc[table["image_id"] == name, column] = cells[column]
        given = table.filter(regex="^p_")
        if len(given.columns):
            table["predicted"] = given.idxmax(axis=1).str.removeprefix("p_")
        write_csv(path, table)
    return read_run(run.params, run.root)


def part_of(page: str, heading: str) -> str:
    start = page.index(heading)
    return page[start : page.index("<h", start + len(heading))]


def test_a_planted_label_error_is_shown_with_its_picture_and_its_slide(run: Run) -> None:
    assert label_errors(run.results[0]) == ([], ["0 of 72 tested images may have a wrong label."])
    page = render(change(run, "i005", p_k1=0.03, p_k2=0.95, p_k0=0.02))
    assert "k1 or k2?" in page
    shown = part_of(page, "Labels that may be wrong")
    assert "1 of 72 tested images may have a wrong label." in shown
    assert 'src="data:image/jpeg' in shown
    assert "labelled k1<br>seems k2<br>slide 14-01&lt;script&gt;" in shown
    assert shown.count("<figure>") == 1
    for i in range(4, 8):
        run = change(run, f"i{i:03d}", p_k1=0.03, p_k2=0.95, p_k0=0.02)
    assert "With all their images: 1 slide (14-01<script>)." in label_errors(run.results[0])[1]
    assert "true <strong>k1</strong> (0.03)<br>predicted <strong>k2</strong> (0.95)" in render(run)
    for i in range(36, 40):
        run = change(run, f"i{i:03d}", p_k0=0.03, p_k2=0.95, p_k1=0.02)
    found, (said,) = label_errors(run.results[0])
    assert "too many to be wrong labels: most are errors of the model" in said
    assert found == []  # pictures would accuse labels that are most likely right


def test_a_planted_image_unlike_the_others_is_shown_and_says_in_what(run: Run) -> None:
    run = change(change(run, "i010", focus=40.0), "i020", f00=90.0)
    labels = read_csv(run.root / "data/interim/labels.csv")
    first, again = audits(run.results * 2, labels, run.root / "data/raw/images", 10**6)
    (said,), sheet = first["unlike"].values()
    assert said.startswith("2 of 72 images are unlike the others: 1 in stain, focus, brightness or share of tissue, ")
    assert said.endswith(" 1 in what the network sees.")
    assert [one["id"] for one in sheet] == ["i010", "i020"]  # the oddest first
    assert sheet[0]["lines"][0].startswith("focus 40, usually ")
    assert "times as far from the nearest image of another case as usual" in sheet[1]["lines"][0]
    assert all(one["picture"].startswith("data:image/jpeg") for one in sheet)
    assert again["unlike"] == {"says": ["The same as of tissue, protocol case."], "sheet": []}


def test_a_planted_crop_that_the_pattern_misses_is_found_by_its_features_and_shown(run: Run) -> None:
    labels, images, rng = (
        read_csv(run.root / "data/interim/labels.csv"),
        run.root / "data/raw/images",
        np.random.default_rng(0),
    )
    files = {name: images / f"{name}.png" for name in labels["image_id"]}
    for file in files.values():
        shades = rng.dirichlet(np.full(27, 2.0))  # how much there is of each of 27 colours, which a crop hardly changes
        picture = np.array(np.unravel_index(rng.choice(27, (23, 35), p=shades), (3, 3, 3))).transpose(1, 2, 0) * 100
        file.unlink()  # else the file of the other tests, to which it is a link, would change
        cv2.imwrite(str(file), cv2.resize(picture.astype(np.uint8), (70, 46), interpolation=cv2.INTER_NEAREST))
    crop = cv2.imread(str(files["i001"]))[3:, 5:]
    files["i070"].unlink()
    cv2.imwrite(str(files["i070"]), cv2.resize(crop, (70, 46), interpolation=cv2.INTER_NEAREST))
    assert near_copies([shrink(file, 10**6) for file in files.values()]) == []

    def read(chosen: list[Path]) -> np.ndarray:
        return np.stack([cv2.imread(str(file))[None] for file in chosen])

    def colours(pixels: np.ndarray) -> np.ndarray:
        bins = (pixels.reshape(len(pixels), -1, 3) // 100).astype(int) @ (9, 3, 1)
        return np.stack([np.bincount(one, minlength=27) for one in bins]).astype(np.float32)

    table = labels.assign(part="train", file=labels["image_id"].map(files))
    path = run.root / "data/predictions/tissue-case-images.csv"
    write_csv(path, appearance_table(table, np.ones(72, bool), read, colours))
    parts = pd.DataFrame({"image_id": list(files), "part": ["train"] * 60 + ["test"] * 12})
    write_csv(run.root / "data/splits/case.csv", parts)
    page = render(read_run(run.params, run.root))
    shown = part_of(page, "Images too similar to each other")
    assert "<li>1 pair among 72 images whose features were compared.</li>" in shown
    assert "<li>Protocol case: 1 pair in two parts.</li>" in shown
    assert "in two parts of case; cases c00 and c17" in shown
    assert shown.count('src="data:image/jpeg') == 2
    first, again = audits(read_run(run.params, run.root).results * 2, labels, images, 10**6)
    assert first["alike"]["pairs"]
    assert again["alike"] == {"says": ["The same as of tissue, protocol case."], "pairs": []}


def test_what_is_near_is_measured_against_other_cases_and_needs_some(run: Run) -> None:
    labels = read_csv(run.root / "data/interim/labels.csv")
    features = np.array([[1, 0], [1, 0.001], [0, 2], [1, 1]])
    found = nearest_images(features, np.array(list("abcd")), np.array(["x", "x", "y", ""]))
    assert found["nearest"].tolist() == ["b", "a", "d", "b"]
    assert found["distance"].tolist() == pytest.approx([0, 0, 1 - 0.5**0.5, 1 - 0.5**0.5], abs=1e-3)
    assert found["elsewhere"].tolist() == pytest.approx([1 - 0.5**0.5] * 4, abs=1e-3)
    assert nearest_images(features * np.nan, np.array(list("abcd")), np.array([""] * 4))["distance"].isna().all()
    assert alike(run.results[0], labels, 10**6)["says"][0].startswith("Not looked for")


def test_an_image_alone_in_its_case_is_no_outlier_for_being_near_to_itself(run: Run) -> None:
    labels = pd.DataFrame({"image_id": [f"i{i:03d}" for i in range(72)], "case": ""})
    found, _ = unlike_images(run.results[0], labels)
    assert found == []


def test_two_classes_that_are_confused_on_one_slide_are_said_slide_by_slide(run: Run) -> None:
    for i in (4, 5, 6):
        run = change(run, f"i{i:03d}", p_k1=0.03, p_k2=0.95, p_k0=0.02)
    run = change(run, "i020", p_k2=0.03, p_k1=0.95, p_k0=0.02)
    labels = pd.DataFrame({"slide": ["s", "s", "t"], "tissue": ["k1", "k2", "k2"]})
    ingest = {"slides_under_two_labels": {"13412": {"k1": 3, "k2": 4}, "1": {"k0": 1, "k2": 1}},
              "conflicts": {"by_slide": {"13412": {"k1": 2, "k2": 2}}}}  # fmt: skip
    (pair,) = confused_pairs(run.results[0], labels, ingest)
    assert (pair["first"], pair["second"]) == ("k1", "k2")
    assert pair["says"] == [
        "k1 predicted as k2: 3 of 24 images, on 1 of 6 slides.",
        "k2 predicted as k1: 1 of 24 images, on 1 of 6 slides.",
        "3 of these 4 images are of 1 slide with more than half of its images predicted as the other class.",
        "Labelled as both classes: 1 slide in the table: 13412; 4 identical images; 1 slide of the images used.",
    ]
    (pair,) = confused_pairs(run.results[0], labels[:0], {})
    assert pair["says"][-1] == "No slide and no identical images are labelled as both classes."
    first = pair["rows"][0]
    assert (first["slide"], first["truth"], first["images"], first["second"]) == ("14-01<script>", "k1", 4, 3)


def test_without_looks_or_features_the_report_says_so(run: Run) -> None:
    path = run.root / "data/predictions/tissue-case-images.csv"
    write_csv(path, pd.read_csv(path)[["image_id", "part", *LOOKS]])
    page = render(read_run(run.params, run.root))
    assert "What the network sees was not measured." in page
    assert "Not measured: the features of its images are not known" in page
    labels = read_csv(run.root / "data/interim/labels.csv")
    write_csv(path, pd.read_csv(path).assign(f00=0.0, f01=0.0))
    (same,) = describe_features(read_run(run.params, run.root).results[:1], labels, trained=False)
    assert "sees the same in all images" in same["reason"]
    for content in ("image_id\n", "torn", None):
        path.unlink() if content is None else path.write_text(content)
        run = read_run(run.params, run.root)
        assert run.results[0].appearance is None
    page = render(run)
    assert "Not looked for" in page
    assert "Not measured" in page


def test_the_table_measures_what_is_needed_and_asks_for_features_of_the_mapped_images_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biopsy.evaluation.appearance.MOST", 4)
    rng, files = np.random.default_rng(0), [tmp_path / f"{i}.png" for i in range(9)]
    for i, file in enumerate(files):
        Image.fromarray(rng.integers(0, 20 + 25 * i, (8, 8, 3), dtype=np.uint8)).save(file)
    table = pd.DataFrame({"image_id": list("abcdefghi"), "part": ["train"] * 8 + ["test"], "file": files})
    found = appearance_table(
        table,
        np.arange(9) == 1,
        lambda chosen: np.stack([np.asarray(Image.open(file))[None] for file in chosen]),
        lambda pixels: pixels[:, 0, 0, :2].reshape(len(pixels), -1),
    )
    assert list(found["image_id"]) == ["a", "b", "c", "f", "i"]
    assert found["brightness"].is_monotonic_increasing
    assert np.isfinite(features_of(found)).all(1).tolist() == [True, False, True, True, True]


def test_components_keep_the_distances_of_standardised_features() -> None:
    features = np.random.default_rng(0).normal(size=(30, 6)) * np.array([1, 10, 100, 1, 1, 0])
    placed = principal_components(features)
    scaled = (features[:, :5] - features[:, :5].mean(0)) / features[:, :5].std(0)
    assert placed.shape == (30, 5)
    apart = [np.linalg.norm(a[0] - a[1:], axis=1) for a in (placed, scaled)]
    assert apart[0] == pytest.approx(apart[1], abs=1e-3)
    assert not principal_components(np.ones((5, 3))).any()  # a network that sees the same in all images
    dead = np.column_stack([features, np.full(len(features), 0.1)]).astype(np.float32)  # whose deviation rounds to 1e-9
    np.testing.assert_allclose(principal_components(dead), placed, atol=1e-3)
