"""Inputs beside the pixels: fitted on training rows, encoded alike ever after, joined late, each with its image."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.params import parse_params, read_params
from biopsy.tables.slides.extra_inputs import Category, Encoder, Number, encode_extra, fit_encoder, read_facts
from biopsy.tables.slides.slide_table import read_slides
from conftest import ROOT
from tiny import make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures")

TABLE = "slide,age,side\ns1,40,left\ns2,60,right\ns3,,left\ns4,80,front\ns5,NA,\n"
ROWS = pd.DataFrame(
    {
        "image_id": [f"i{i}" for i in range(7)],
        "slide": ["s1", "s1", "s1", "s2", "s3", "s4", "s5"],
        "magnification": [40.0, 100, 40, 400, 100, 200, 40],
        "part": ["train"] * 5 + ["val", "test"],
    }
)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    path = tmp_path / "slides.csv"
    path.write_text(TABLE)
    return path


def test_numbers_are_scaled_words_spread_and_gaps_masked_as_computed_by_hand(slides: Path) -> None:
    encoder, found = encode_extra(ROWS, ["magnification", "slides"], slides)
    assert encoder is not None
    assert found is not None
    # Training slides s1, s2, s3: age 40 and 60, so mean 50 and deviation 10, each slide once; side left, right.
    # magnification 40 100 400 other gap | age, gap | left right other gap
    assert found.tolist() == [
        [1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, -1, 0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 3, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
    ]
    assert found.dtype == np.float32
    assert found.shape[1] == encoder.width == 11


def test_what_validation_and_test_slides_say_changes_nothing_that_was_fitted(slides: Path) -> None:
    before, _ = encode_extra(ROWS, ["magnification", "slides"], slides)
    slides.write_text(TABLE.replace("s4,80,front", "s4,-999,back").replace("s5,NA,", "s5,7,under"))
    changed = ROWS.assign(magnification=[40.0, 100, 40, 400, 100, 7, 9])
    after, _ = encode_extra(changed, ["magnification", "slides"], slides)
    assert after == before
    slides.write_text(TABLE.replace("s2,60", "s2,61"))
    assert encode_extra(ROWS, ["magnification", "slides"], slides)[0] != before


def test_an_encoder_comes_back_from_json_as_it_was(slides: Path) -> None:
    encoder, found = encode_extra(ROWS, ["slides"], slides)
    assert encoder is not None
    again = Encoder.model_validate_json(encoder.model_dump_json())
    assert again == encoder
    np.testing.assert_array_equal(again.encode(read_facts(ROWS, again.inputs, slides)), found)


def test_equal_numbers_and_empty_columns_give_nothing_to_learn_and_no_nan(slides: Path) -> None:
    slides.write_text("slide,same,empty\ns1,5,\ns2,5,\ns3,5,\ns4,6,x\ns5,,\n")
    encoder, found = encode_extra(ROWS, ["slides"], slides)
    assert encoder is not None
    assert found is not None
    assert encoder.columns == [
        Number(name="slides.same", mean=5.0, deviation=1.0), Category(name="slides.empty", categories=[]),
    ]  # fmt: skip
    assert found[:5].tolist() == [[0, 0, 0, 1]] * 5
    assert found[5].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("patient,age\n1,2\n", ["no column 'slide'", "patient, age"]),
        ("slide\ns1\n", ["no other column than 'slide'"]),
        ("slide,a,a\ns1,1,2\n", ["two columns 'a'"]),
        ("slide,age\n,5\n", ["row 2 names no slide"]),
        ("slide,age\ns1,5\ns1,6\n", ["different rows for one slide (s1)"]),
        ("slide,age\n", ["no row", "one slide per row"]),
        ("slide,age\ns1,5\ns2,6\ns3,7\ns4,8\n", ["no row for 1 of 5 slides (s5)", "s4"]),
        ("slide,age\nLONG-NAME-1,5\nLONG-NAME-2,6\n", ["5 of 5 slides", "It names long-name-1, long-name-2."]),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(slides: Path, content: str, words: list[str]) -> None:
    slides.write_text(content)
    with pytest.raises(DataError) as error:
        encode_extra(ROWS, ["slides"], slides)
    for word in ("data.slides", *words):
        assert word in str(error.value)


def test_too_many_words_are_refused_with_one_that_is_no_number(slides: Path) -> None:
    facts = pd.DataFrame(
        {"slide": [f"s{i}" for i in range(49)], "slides.age": ["12,5"] * 10 + [str(i) for i in range(39)]}
    )
    with pytest.raises(DataError, match=r"'slides\.age'.*40 different words.*more than 32.*'12,5'"):
        fit_encoder(facts, ["slides"])


@pytest.mark.parametrize("odd", ["about 50", "12,5", "nan?", "inf", "50-60"])
def test_an_odd_cell_of_a_column_of_numbers_is_missing_and_named_with_its_slide(
    slides: Path, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    rows = pd.concat([ROWS.assign(image_id=f"{i}", slide=f"s{i}", part="train").head(1) for i in range(5)])
    table = "slide,age\n" + "".join(f"s{i},{40 + 10 * i}\n" for i in range(4))
    slides.write_text(table + "s4,\n")
    gap = encode_extra(rows, ["slides"], slides)
    assert capsys.readouterr().err == ""
    slides.write_text(f'{table}s4,"{odd}"\n')
    encoder, found = encode_extra(rows, ["slides"], slides)
    assert encoder == gap[0]
    np.testing.assert_array_equal(found, gap[1])
    said = f"1 cell without a number in columns of numbers, taken as missing (slide s4: age {odd!r})."
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["'--", "--", "-", "?", "None", "Not Reported", "unknown", "N/A"])
def test_every_mark_of_a_missing_value_is_one_in_numbers_and_in_words(slides: Path, mark: str) -> None:
    expected = encode_extra(ROWS, ["slides"], slides)
    slides.write_text(TABLE.replace("NA", mark).replace(",\n", f",{mark}\n"))
    encoder, found = encode_extra(ROWS, ["slides"], slides)
    assert encoder == expected[0]
    np.testing.assert_array_equal(found, expected[1])


@pytest.mark.parametrize(
    "cells", [["45,5", "60,1", "7"], ["45 %", "60%", "7"], ["45 years", "60 years", "7"], ["1,200", "900", "7"]]
)
def test_numbers_that_are_written_as_words_are_told(
    slides: Path, capsys: pytest.CaptureFixture[str], cells: list[str]
) -> None:
    rows = pd.concat([ROWS.assign(image_id=f"{i}", slide=f"s{i}", part="train").head(1) for i in range(3)])
    slides.write_text("slide;age;sex\n" + "".join(f"s{i};{cell};{'mM'[i % 2]}\n" for i, cell in enumerate(cells)))
    encoder, _ = encode_extra(rows, ["slides"], slides)
    assert encoder is not None
    assert [column.categories for column in encoder.columns if isinstance(column, Category)][1] == ["M"]
    said = capsys.readouterr().err
    assert "column 'age' of data.slides is taken as words" in said
    assert "'sex'" not in said


def test_a_column_in_which_words_are_more_than_a_fifth_holds_words() -> None:
    facts = pd.DataFrame({"slide": list("abcd"), "slides.grade": ["1", "2", "3", "high"]})
    assert fit_encoder(facts, ["slides"]).columns == [Category(name="slides.grade", categories=["1", "2", "3", "high"])]


def test_an_image_without_magnification_is_named(slides: Path) -> None:
    with pytest.raises(DataError, match=r"magnification, which 1 images lack \(i2\)\. Name .*ingest\.columns"):
        encode_extra(ROWS.assign(magnification=[40, 40, None, 40, 40, 40, 40]), ["magnification"], slides)


def test_equal_rows_count_once_and_any_spelling_of_the_column_is_found(slides: Path) -> None:
    slides.write_text("Slide ;age\n007;5\n007;5\n")
    assert read_slides(slides).to_dict("index") == {"007": {"age": "5"}}


def test_slides_in_another_spelling_than_in_the_images_table_are_found(slides: Path) -> None:
    encoder, found = encode_extra(ROWS, ["slides"], slides)
    slides.write_text(TABLE.replace("\ns1", "\nS1").replace("\ns2", "\n S 2"))
    again = encode_extra(ROWS, ["slides"], slides)
    assert again[0] == encoder
    np.testing.assert_array_equal(again[1], found)
    slides.write_text(TABLE + "S1,1,left\n")
    with pytest.raises(DataError, match=r"different rows for one slide \(S1\)"):
        read_slides(slides)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"data": {"source": "breakhis"}, "model": {"extra_inputs": ["slides"]}}, "data.slides"),
        ({"model": {"extra_inputs": ["slides", "slides"]}}, "once"),
        ({"model": {"extra_inputs": ["magnification"]}, "augment": {"mix": {"mixup": 0.2}}}, "augment.mix"),
        ({"model": {"extra_inputs": ["magnificaton"]}}, "Did you mean 'magnification'"),
    ],
)
def test_parameters_that_do_not_agree_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ParamsError, match=word):
        parse_params(change)


# From here on with TensorFlow.


def feed(augment: dict[str, Any]) -> Any:
    """Ten images whose first pixel, and whose extra input, is their number."""
    from biopsy.training.inputs.feed import PixelFeed
    from biopsy.training.inputs.loader import ImageStore, training_items

    array = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)
    array[:, 0, 0, 0] = np.arange(10)
    targets = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 1])
    params = parse_params({"augment": augment, "seed": 0})
    items = training_items(targets[:7], params.augment, "binary")
    extra = np.stack([np.arange(10), np.zeros(10)], axis=1).astype(np.float32)
    return PixelFeed(ImageStore.whole(array), items, targets[7:], params, "binary", 2, 4, extra)


def test_extra_inputs_come_with_their_own_image_in_every_batch_of_every_epoch() -> None:
    augment = {"double_minority": True, "copies": {"binary": {}}, "every": {}}
    images = feed(augment)
    assert len(images.items) == 9
    batches = [*images.train(range(3)), *images.train(range(1, 3)), *images.train(range(2), shuffled=False)]
    assert len(batches) == 2 * 7  # of 4 and 5
    for inputs, targets in [*batches, *images.validation()]:
        np.testing.assert_array_equal(inputs["pixels"][:, 0, 0, 0], inputs["extra"][:, 0])
        assert len(targets) == len(inputs["extra"])
    again = [inputs["extra"].numpy() for inputs, _ in images.train(range(1, 3))]
    for expected, found in zip([b["extra"].numpy() for b, _ in batches[2:6]], again, strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.slow
def test_stored_features_come_with_the_extra_inputs_of_their_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biopsy.core.sections.model import Head, Model
    from biopsy.networks.build import build_model
    from biopsy.training.inputs.features import head_on_features

    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path))
    images = feed({"every": {"flip": True}})
    model = build_model(Model(trainable="none", head=Head(feature_norm=False)), 32, 2, extra=2)
    model.get_layer("extra_dense").set_weights([np.ones((2, 16)), np.zeros(16)])
    head, stored = head_on_features(model, images, 2, "test")
    pairs = [*zip(images.train(range(2)), stored.train(range(2)), strict=True)]
    pairs += zip(images.validation(), stored.validation(), strict=True)
    for (seen, target), (found, stored_target) in pairs:
        np.testing.assert_array_equal(found[1], seen["extra"])
        np.testing.assert_array_equal(target, stored_target)
        np.testing.assert_allclose(head.predict_on_batch(list(found)), model.predict_on_batch(seen), atol=1e-5)


@pytest.mark.slow
def test_a_category_that_training_never_showed_stays_without_effect_on_the_answer() -> None:
    from biopsy.core.sections.model import Head, Model
    from biopsy.networks.backend import keras, seed_everything
    from biopsy.networks.build import build_model

    seed_everything(0)
    model = build_model(Model(head=Head(units=0, dropout=0.0)), 32, 2, extra=3)
    model.compile(keras.optimizers.AdamW(0.01), "binary_crossentropy")
    rng = np.random.default_rng(0)
    extra = np.eye(3, dtype=np.float32)[rng.integers(0, 2, 32)]
    pixels = rng.uniform(0, 255, (32, 32, 32, 3)).astype(np.float32)
    model.fit({"pixels": pixels, "extra": extra}, extra[:, :1], epochs=3, verbose=0)

    def ask(row: list[float]) -> float:
        given = {"pixels": pixels[:1], "extra": np.array([row], np.float32)}
        return float(model.predict_on_batch(given)[0, 0])

    assert ask([0, 0, 1]) == ask([0, 0, 0])
    assert abs(ask([1, 0, 0]) - ask([0, 1, 0])) > 0.001


NAME = "binary-case"
SHORT = {
    "resize.size": 32,
    "train.epochs": 2,
    "model.extra_inputs": ["magnification", "slides"],
}


class Project:
    """A tiny project with a table of slides; the stages are run in this process, since starting one costs seconds."""

    def __init__(self, root: Path, set_params: Callable[..., Path]) -> None:
        self.root, self.set_params = root, set_params
        self.slides, self.model = root / "data/raw/slides.csv", root / "models" / NAME / "model.keras"
        slides = make_project(root, per_class=3)["slide"]
        ages = ["" if i % 5 == 0 else str(30 + i) for i in range(len(slides))]
        pd.DataFrame({"slide": slides, "age": ages, "side": "left"}).to_csv(self.slides, index=False)

    def run(self, stage: str, **overrides: Any) -> None:
        path = self.set_params(SHORT | {key.replace("__", "."): value for key, value in overrides.items()})
        runpy.run_path(str(ROOT / f"stages/{stage}.py"))[stage](read_params(path), "binary", "case", self.root)

    def predictions(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "data/predictions" / f"{NAME}.csv")


@pytest.fixture
def project(
    tmp_path: Path, set_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, quick_training: None
) -> Project:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    return Project(tmp_path, set_params)


@pytest.mark.graph
@pytest.mark.slow
def test_a_trained_model_is_tested_with_the_encoder_of_its_card(project: Project) -> None:
    project.run("train")
    card = read(project.model.with_name("model.json"))
    names = [column["name"] for column in card["extra_inputs"]["columns"]]
    assert names == ["magnification", "slides.age", "slides.side"]
    project.run("evaluate")
    table = project.predictions()
    np.testing.assert_allclose(table["p_malignant"], predictions_by_hand(project.root), atol=1e-6)
    # Were the encoder fitted again, other training rows in the table would change the answers.
    slides = pd.read_csv(project.slides, dtype=str, keep_default_na=False)
    slides.loc[~slides["slide"].isin(set(table["slide"])), "age"] = "1000"
    slides.to_csv(project.slides, index=False)
    project.run("evaluate")
    pd.testing.assert_frame_equal(project.predictions(), table)


def predictions_by_hand(project: Path) -> np.ndarray:
    from biopsy.networks.model_file import load_model
    from biopsy.tables.split.parts import read_images, read_parts

    model, card = load_model(project / "models" / NAME)
    labels, split = project / "data/interim/labels.csv", project / "data/splits/case.csv"
    rows = read_parts(labels, split, project / "data/resized", "binary", card.classes)
    rows = rows[rows["part"] == "test"].reset_index(drop=True)
    extra = card.extra_inputs.encode(read_facts(rows, card.extra_inputs.inputs, project / "data/raw/slides.csv"))
    pixels = read_images(list(rows["file"]), 32).astype(np.float32)
    return model.predict_on_batch({"pixels": pixels, "extra": extra})[:, 0]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_model_unless_its_extra_inputs_changed(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from biopsy.training.resume import TrainingState

    project.run("train")
    unbroken = project.model.read_bytes()
    save = TrainingState.on_epoch_end

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    def stop() -> None:
        project.model.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(TrainingState, "on_epoch_end", save_and_stop)
            project.run("train")

    with pytest.raises(KeyboardInterrupt):
        stop()
    project.run("train")
    assert "goes on after epoch 1" in capsys.readouterr().out
    assert project.model.read_bytes() == unbroken
    with pytest.raises(KeyboardInterrupt):
        stop()
    project.slides.write_text(project.slides.read_text().replace(",31,", ",32,"))
    project.run("train")
    assert "goes on" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_frozen_backbone_with_stored_features_takes_extra_inputs(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.run("train", model__trainable="none", model__feature_views=2)
    assert "kept in" in capsys.readouterr().out
    project.run("evaluate")
    assert len(project.predictions()) == 8


@pytest.mark.slow
def test_a_slide_that_the_table_lacks_stops_the_training_in_one_sentence(project: Project) -> None:
    lines = project.slides.read_text().splitlines()
    project.slides.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match=rf"no row for 1 of 24 slides \({lines[-1].split(',')[0]}\)"):
        project.run("train")
    assert not project.model.exists()
