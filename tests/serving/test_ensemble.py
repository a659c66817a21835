"""Folds or seeds as one ONNX file: the mean of their calibrated answers, and no figure of patients it has not seen."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import biopsy
from biopsy.cli import command
from biopsy.core.errors import SourceError
from biopsy.images.looks.record import Looks, Range
from biopsy.images.preparation.record import Stains
from biopsy.networks.backend import keras
from biopsy.networks.model_file import Card, read_card, save_model
from biopsy.serving.export.ensemble import members_of
from biopsy.serving.export.run import export_model
from biopsy.serving.model import describe
from biopsy.serving.onnx_file import open_file
from tiny_onnx import DARK, SIZE

FOLDED = DARK.model_copy(update={"protocol": "case-cv3"})


def write_member(folder: Path, number: int, card: Card = FOLDED) -> None:
    """Models of one frozen convolution, each with a head of its own."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    maps = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 8)(pixels))
    features = keras.layers.GlobalAveragePooling2D(name="head_pool")(maps)
    keras.utils.set_random_seed(number)
    model = keras.Model(pixels, keras.layers.Dense(1, "sigmoid")(features))
    folder.mkdir(parents=True)
    look = Looks(images=4, ranges={"focus": Range(low=number, median=5, high=10 + number)})
    save_model(model, folder, card.model_copy(update={"temperature": 0.5 * number, "training": look}))


def test_the_folds_of_a_cross_validation_become_one_file_that_answers_with_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "models/binary-case-cv3"
    for number in (1, 2, 3):
        write_member(whole / f"1-{number}", number, FOLDED.model_copy(update={"fold": f"1-{number}"}))
    monkeypatch.chdir(tmp_path)
    command(["export", "models/binary-case-cv3"])
    assert "the mean of 3 models" in capsys.readouterr().out
    path = tmp_path / "exports/binary-case-cv3.onnx"
    rng = np.random.default_rng(1)
    images = [(rng.integers(0, 128, 3) + rng.integers(0, 128, (32, 64, 3))).astype(np.uint8) for _ in range(3)]
    given = biopsy.load(path).predict(images).filter(like="p_").to_numpy()
    members = [biopsy.load(whole / f"1-{number}").predict(images).filter(like="p_").to_numpy() for number in (1, 2, 3)]
    np.testing.assert_allclose(given, np.mean(members, axis=0), atol=1e-5)
    assert not np.allclose(members[0], members[1], atol=0.01)
    content, facts, card = open_file(path)
    assert [node.op_type for node in onnx.load_from_string(content).graph.node].count("Conv") == 1
    assert facts["figures"] == "null"
    assert (card.fold, card.temperature, card.calibration, len(card.members)) == (None, 1.0, None, 3)
    assert card.training == Looks(images=4, ranges={"focus": Range(low=1, median=5, high=13)})
    assert "no figures of its own on unseen patients" in describe(card)
    assert export_model(whole / "1-2", root=tmp_path)[0] == tmp_path / "exports/binary-case-cv3-1-2.onnx"
    seeds = [whole / f"1-{number}" for number in (3, 1, 2)]
    again, _ = export_model(seeds, tmp_path / "seeds.onnx", tmp_path)
    assert again.read_bytes() == path.read_bytes()


def test_what_does_not_fit_together_is_no_ensemble(tmp_path: Path) -> None:
    first, other = tmp_path / "a", tmp_path / "b"
    write_member(first, 1)
    write_member(other, 2, DARK)
    with pytest.raises(SourceError, match=r"b and .*a cannot answer together: their protocol differs"):
        export_model([first, other], root=tmp_path)
    for name, split in (("1-1", "1"), ("1-2", "2")):
        write_member(tmp_path / name, 1, FOLDED.model_copy(update={"fold": name, "data": {"split": split * 64}}))
    with pytest.raises(SourceError, match=r"the folds in .*1-1, .*1-2 are of different labels or splits"):
        export_model(tmp_path, root=tmp_path)
    for name, amount in (("3-1", 0.5), ("3-2", 0.6)):
        stain = Stains(method="macenko", directions=(amount,) * 6, spreads=(1, 1))
        stained = FOLDED.preparation.model_copy(update={"stain": stain})
        write_member(tmp_path / "stained" / name, 1, FOLDED.model_copy(update={"fold": name, "preparation": stained}))
    with pytest.raises(
        SourceError, match=r"preparation differs\. Each fold has a stain of its own\..*stain\.method=none"
    ):
        export_model(tmp_path / "stained", root=tmp_path)
    with pytest.raises(SourceError, match="once"):
        members_of([first, first])
    with pytest.raises(SourceError, match=r"there is no model .*none\. There are .*1-1, .*a, .*b\."):
        export_model(tmp_path / "none", root=tmp_path)


def test_the_folder_of_a_cross_validation_is_not_a_model_and_the_way_to_the_mean_of_its_folds_is_named(
    tmp_path: Path,
) -> None:
    whole = tmp_path / "binary-case-cv2"
    for name in ("1-1", "1-2"):
        write_member(whole / name, 1, FOLDED.model_copy(update={"fold": name}))
    with pytest.raises(SourceError, match=r"`biopsy export .*cv2` writes the mean of its 2 folds.* that file.*cv2/1-1"):
        read_card(whole)
