"""The embedded sample: official tree and naming, the course CSV's traps, types that can be learnt."""

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biopsy.core.errors import ParamsError
from biopsy.core.sections.data import Data
from biopsy.sources.fetch import fill
from biopsy.sources.kinds.sample import Sample
from biopsy.sources.sample.draw import draw_sample, slides_of
from biopsy.sources.sample.slides import draw_slides
from biopsy.tables.labels.breakhis import MAGNIFICATIONS, TYPES, Name, parse

SMALL: dict[str, Any] = {"images": 48, "width": 140, "height": 92}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    # Half the default size: the same plan of images in a third of the time.
    draw_sample(folder, 240, 175, 115)
    return folder


@pytest.fixture(scope="module")
def names(sample: Path) -> dict[str, Name]:
    return {row[0]: name for row in _rows(sample) if (name := parse(row[0]))}


def _rows(folder: Path) -> list[list[str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))[1:]


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _pixels(folder: Path, path: str) -> np.ndarray:
    return np.asarray(cv2.imread(str(folder / "images" / path), cv2.IMREAD_UNCHANGED))


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        draw_sample(tmp_path / folder, **SMALL, seed=3)
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")


def test_another_seed_gives_other_images_under_the_same_names(tmp_path: Path) -> None:
    for seed in (0, 1):
        draw_sample(tmp_path / str(seed), **SMALL, seed=seed)
    first, second = _hashes(tmp_path / "0"), _hashes(tmp_path / "1")
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] == second[path]] == ["metadata.csv"]


def test_the_sample_has_a_seed_of_its_own(tmp_path: Path) -> None:
    draw_sample(tmp_path / "drawn", 48, 64, 64, seed=3)
    (tmp_path / "filled").mkdir()
    facts = fill(Data(sample=Sample(images=48, width=64, height=64, seed=3)), tmp_path / "filled", tmp_path)
    assert _hashes(tmp_path / "drawn").items() <= _hashes(tmp_path / "filled").items()
    assert "(seed 3)" in facts["description"]


def test_counts_are_those_of_the_files(sample: Path, names: dict[str, Name], tmp_path: Path) -> None:
    counts = draw_sample(tmp_path, **SMALL)
    files = list(tmp_path.rglob("*.png"))
    assert counts["images"] == len(files) == len(_rows(tmp_path)) == 48
    assert counts["slides"] == len({path.parent.parent.name for path in files})
    assert counts["cases"] == len({parse(path.name).case for path in files})  # type: ignore[union-attr]
    assert (counts["duplicates"], counts["short_rows"]) == (1, 3)
    assert len(list(sample.rglob("*.png"))) == len(names) == 240


@pytest.mark.parametrize(("width", "height"), [(64, 64), (141, 93)])
def test_images_have_the_size_asked_for_and_three_channels(tmp_path: Path, width: int, height: int) -> None:
    draw_sample(tmp_path, 48, width, height)
    assert {_pixels(tmp_path, row[0]).shape for row in _rows(tmp_path)} == {(height, width, 3)}


def test_folders_file_names_and_rows_agree(sample: Path, names: dict[str, Name]) -> None:
    assert [path.removeprefix("images/") for path in _hashes(sample) if path.endswith(".png")] == sorted(names)
    for path, name in names.items():
        kind = TYPES[name.subtype][1].replace(" ", "_")
        slide = f"SOB_{name.label[0].upper()}_{name.subtype}_14-{name.slide}"
        folder = f"BreaKHis_v1/histology_slides/breast/{name.label}/SOB/{kind}/{slide}/{name.magnification}X/"
        assert path.startswith(folder)
        assert path.endswith(f"-{name.seq:03d}.png")


def test_rows_say_what_the_real_csv_would(sample: Path, names: dict[str, Name]) -> None:
    lines = (sample / "metadata.csv").read_text("utf-8").splitlines()
    assert lines[0] == "path_to_image,Benign or Malignant,Cancer Type,Magnification"
    rows = _rows(sample)
    assert [row[0] for row in rows] == sorted(names)
    for path, *cells in (row for row in rows if len(row) == 4):
        name = names[path]
        assert cells == [name.label.capitalize(), TYPES[name.subtype][1].title(), f"{name.magnification}X"]


def test_paths_have_the_shape_of_the_real_ones(real_data: Path, names: dict[str, Name]) -> None:
    def shape(path: str) -> str:
        name = parse(path)
        assert name is not None
        return path.replace(name.slide, "S").replace(f"-{name.seq:03d}.png", "")

    with (real_data / "image_data.csv").open(newline="", encoding="utf-8") as stream:
        real = {shape(row[0]) for row in list(csv.reader(stream))[1:] if "_14-" in row[0]}
    assert {shape(path) for path in names} <= real


def test_short_rows_end_as_in_the_course_csv(sample: Path) -> None:
    lines = (sample / "metadata.csv").read_text("utf-8").splitlines()
    short = [line for line in lines if line.endswith(",")]
    assert sorted(line.count(",") for line in short) == [1, 1, 2]
    assert [line.split(",")[1] for line in short if line.count(",") == 2] == ["Malignant"]


def test_every_type_has_five_cases_and_every_magnification(names: dict[str, Name]) -> None:
    cases, magnifications = defaultdict(set), defaultdict(set)
    for name in names.values():
        cases[name.subtype].add(name.case)
        magnifications[name.subtype].add(name.magnification)
    assert set(cases) == set(TYPES)
    assert all(len(found) >= 5 for found in cases.values())
    assert all(found == set(MAGNIFICATIONS) for found in magnifications.values())


def test_the_smallest_sample_still_has_five_cases_of_every_type(tmp_path: Path) -> None:
    draw_sample(tmp_path, **SMALL)
    pairs = {(name.subtype, name.case) for row in _rows(tmp_path) if (name := parse(row[0]))}
    assert min(Counter(subtype for subtype, _ in pairs).values()) >= 5


def test_some_cases_have_two_slides_and_no_case_has_two_types(names: dict[str, Name]) -> None:
    slides, types = defaultdict(set), defaultdict(set)
    for name in names.values():
        slides[name.case].add(name.slide)
        types[name.case].add(name.subtype)
    shared = [case for case, found in slides.items() if len(found) == 2]
    assert {next(iter(types[case])) for case in shared} == set(TYPES)
    assert all(len(found) == 1 for found in types.values())


def test_cases_are_no_real_patients(names: dict[str, Name], real_data: Path) -> None:
    with (real_data / "image_data.csv").open(newline="", encoding="utf-8") as stream:
        real = {name.case for row in csv.reader(stream) if (name := parse(row[0]))}
    assert len(real) == 70
    assert not real & {name.case for name in names.values()}


def test_classes_are_about_as_uneven_as_in_breakhis(names: dict[str, Name]) -> None:
    share = Counter(name.subtype for name in names.values())
    assert share.most_common(1)[0][0] == "DC"
    assert 0.55 < sum(name.label == "malignant" for name in names.values()) / len(names) < 0.7


def test_one_image_stands_twice_with_other_bytes(sample: Path, names: dict[str, Name]) -> None:
    alike = defaultdict(list)
    for path in names:
        alike[_pixels(sample, path).tobytes()].append(path)
    pairs = [paths for paths in alike.values() if len(paths) > 1]
    assert len(pairs) == 1
    one, two = (names[path] for path in pairs[0])
    assert (one.slide, one.magnification) == (two.slide, two.magnification)
    assert one.seq != two.seq
    assert len(set(_hashes(sample).values())) == 241, "only the pixels are alike, not the bytes"


def test_too_few_images_are_refused_by_the_parameter_s_name(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"data\.sample\.images is 47.*at least 48"):
        draw_sample(tmp_path, images=47)
    assert not list(tmp_path.iterdir())


def _features(image: np.ndarray) -> list[float]:
    """Return texture only, nothing of the stain: histogram and edges of the standardised grey at three scales."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    features: list[float] = []
    for scale in (1, 2, 4):
        g = cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        g = (g - g.mean()) / g.std()
        features += (np.histogram(g, 10, (-3, 3))[0] / g.size).tolist()
        features += [float(np.abs(np.diff(g, axis=axis)).mean()) for axis in (0, 1)]
        features += [float(np.abs(cv2.Laplacian(g, cv2.CV_32F)).mean())]
    return features


def _scores(features: list[list[float]], truth: list[str], cases: list[str]) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return float(f1_score(truth, cross_val_predict(model, features, truth, groups=cases, cv=folds), average="macro"))


def test_types_are_learnt_on_unseen_cases_above_chance_and_not_perfectly(sample: Path, names: dict[str, Name]) -> None:
    features = [_features(_pixels(sample, path)) for path in names]
    cases = [name.case for name in names.values()]
    binary = _scores(features, [name.label for name in names.values()], cases)
    eight = _scores(features, [name.subtype for name in names.values()], cases)
    assert 0.7 < binary < 0.99  # chance: 0.5
    assert 0.4 < eight < 0.97  # chance: about 0.12


def test_slides_differ_in_stain(sample: Path, names: dict[str, Name]) -> None:
    means: dict[str, list[np.ndarray]] = defaultdict(list)
    for path, name in names.items():
        if name.subtype == "F":
            means[name.slide].append(_pixels(sample, path).mean(axis=(0, 1)))
    within = np.mean([np.std(found, axis=0) for found in means.values()])
    between = np.std([np.mean(found, axis=0) for found in means.values()], axis=0).mean()
    assert between > 1.3 * within


def test_the_table_of_slides_has_a_row_for_each_slide_and_tells_something_but_not_all(names: dict[str, Name]) -> None:
    pairs = slides_of(240)
    assert {slide for _, slide in pairs} == {name.slide for name in names.values()}
    table = draw_slides(pairs, 0)
    assert table.equals(draw_slides(pairs, 0))
    assert table.iloc[3:5].reset_index(drop=True).equals(draw_slides(pairs[3:5], 0))  # a row depends on its slide alone
    assert not table.equals(draw_slides(pairs, 1))
    many = draw_slides([(subtype, f"{90000 + i}") for i in range(800) for subtype in ("A", "DC")], 0)
    malignant = np.arange(len(many)) % 2 == 1
    missing = many.drop(columns="slide") == ""
    assert missing.to_numpy().mean() == pytest.approx(0.15, abs=0.02)
    age = pd.to_numeric(many["age"])
    means, spread = age.groupby(malignant).mean(), age.groupby(malignant).std().mean()
    assert 1 < (means[True] - means[False]) / spread < 2  # learnable, and not enough to know
    left = (many["side"] == "left").groupby(malignant).mean()
    assert left[True] == pytest.approx(left[False], abs=0.08)


def test_slides_of_one_patient_share_what_a_patient_has() -> None:
    table = draw_slides([("DC", f"90001{suffix}") for suffix in ("AB", "CD", "EF", "G", "H")], 0)
    assert len(set(table["age"]) - {""}) == 1
    assert len(set(table["diameter_mm"]) - {""}) > 1
