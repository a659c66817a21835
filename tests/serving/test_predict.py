"""`load` and `biopsy predict`: what a person gets for images, good ones and bad ones."""

import hashlib
import io
import json
import os
from pathlib import Path
from threading import Barrier
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

import biopsy
from biopsy.cli import command
from biopsy.core.errors import BiopsyError, DataError, ParamsError, SourceError
from biopsy.core.sections.data import Resize, Tiles
from biopsy.experiments.model_info import dvc_hash, figures_of
from biopsy.images.preparation.record import Preparation
from biopsy.networks.backend import keras
from biopsy.networks.model_file import NOTICE, save_model
from biopsy.serving.figures import figures_of_test
from cards import CARD
from schemes import BREAKHIS
from tiny_onnx import write_onnx

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one model, which takes dark images for malignant, and three images."""
    root = tmp_path_factory.mktemp("predict")
    for name, value in (("dark", 40), ("light", 210), ("middle", 120)):
        (root / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"images/{name}.png"), np.full((48, 64, 3), value, np.uint8))
    write_model(root / "models/binary-case", Resize(size=SIZE))
    return root


def write_model(folder: Path, resize: Resize) -> None:
    inputs = keras.Input((SIZE, SIZE, 3), name="pixels")
    output = keras.layers.Dense(1, "sigmoid")(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, output)
    model.layers[-1].set_weights([np.full((3, 1), -0.01), np.array([3.81])])
    folder.mkdir(parents=True)
    preparation = Preparation(max_pixels=10_000, resize=resize)
    save_model(
        model, folder, CARD.model_copy(update={"task": "binary", "labels": BREAKHIS, "preparation": preparation})
    )


def run(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.chdir(root)
    command(["predict", *arguments])


def test_paths_bytes_and_arrays_of_an_image_give_the_same_probabilities(folder: Path) -> None:
    model = biopsy.load(folder / "models/binary-case")
    path = folder / "images/dark.png"
    table = model.predict([path, str(path), path.read_bytes(), np.full((48, 64, 3), 40, np.uint8)])
    told = ["error", "in_training", "unlike_training"]
    assert list(table.columns) == ["image", "predicted", "p_benign", "p_malignant", *told]
    assert table["unlike_training"].isna().all()  # of this model, nothing is known
    assert table["image"].tolist() == [str(path), str(path), "2", "3"]
    assert set(table["predicted"]) == {"malignant"}
    expected = 1 / (1 + np.exp(0.03 * 40 - 3.81))
    assert table["p_malignant"].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert (table["p_benign"] + table["p_malignant"]).to_numpy() == pytest.approx(1, abs=2e-6)


def test_an_image_of_several_tiles_gets_their_mean(tmp_path: Path) -> None:
    write_model(tmp_path / "m", Resize(size=SIZE, mode="tiles", tiles=Tiles(px=32, rows=1, columns=2)))
    model = biopsy.load(tmp_path / "m")
    halves = np.concatenate([np.full((32, 32, 3), value, np.uint8) for value in (40, 210)], axis=1)
    one, other = model.predict([halves[:, :32].repeat(2, 1), halves[:, 32:].repeat(2, 1)])["p_malignant"]
    assert model.predict([halves])["p_malignant"].item() == pytest.approx((one + other) / 2, abs=2e-6)


def test_several_images_are_answered_at_once_and_come_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biopsy.serving.answering.THREADS", 2)
    model = biopsy.load(write_onnx(tmp_path / "dark.onnx"))
    both, ask = Barrier(2, timeout=20), model.probabilities
    monkeypatch.setattr(model, "probabilities", lambda views: (both.wait(), ask(views))[1])
    given = list(model.answers((value, np.full((48, 64, 3), value, np.uint8)) for value in (0, 80, 160, 240)))
    assert [value for value, _ in given] == [0, 80, 160, 240]
    malignant = [answer.probabilities[1] for _, answer in given]
    assert malignant == sorted(set(malignant), reverse=True)


def test_the_threshold_of_the_card_decides(tmp_path: Path, folder: Path) -> None:
    model = biopsy.load(folder / "models/binary-case")
    probability = model.predict([folder / "images/middle.png"])["p_malignant"].item()
    model.card = model.card.model_copy(update={"threshold": probability + 0.01})
    assert model.predict([folder / "images/middle.png"])["predicted"].item() == "benign"


@pytest.mark.parametrize("out", ["table.csv", "table.json", "table.jsonl"])
def test_a_bad_file_is_a_row_with_its_reason_and_the_others_are_predicted(
    folder: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "images/dark.png").read_bytes()
    files: dict[str, bytes] = {
        os.fsdecode(b"a\xe9.png"): whole,
        "b.png": whole[:60],
        "c.png": b"no image",
        "d.png": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    target = tmp_path / "out" / out
    with pytest.raises(DataError, match="3 of the images have no prediction"):
        run(folder, monkeypatch, str(tmp_path), "--out", str(target))
    text = target.read_text()
    rows: list[dict[str, Any]] = (
        pd.read_csv(io.StringIO(text)).to_dict("records") if out.endswith("csv")
        else json.loads(text) if out.endswith("json") else [json.loads(line) for line in text.splitlines()]
    )  # fmt: skip
    shown = [Path(row["image"]).name.encode("utf-8", "backslashreplace").decode() for row in rows]
    assert shown == ["a\\udce9.png", "b.png", "c.png", "d.png"]  # a name need not be text
    assert [row["predicted"] == "malignant" for row in rows] == [True, False, False, False]
    assert all(name in row["error"] for row, name in zip(rows[1:], list(files)[1:], strict=True))
    assert NOTICE in capsys.readouterr().err


def test_a_folder_and_a_file_answer_side_by_side(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("biopsy.networks.answers.BATCH", 2)  # the three images are two batches
    models = ["--model", "models/binary-case", "--model", str(write_onnx(tmp_path / "dark.onnx"))]
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 of the images has no prediction"):
        run(folder, monkeypatch, str(tmp_path / "bad.png"), "images", *models)
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    assert table["model"].tolist() == ["binary-case", "dark"] * 4
    assert table["predicted"].tolist() == ["", "", *["malignant"] * 2, *["benign"] * 2, *["malignant"] * 2]
    one, other = (table[table["model"] == name].reset_index(drop=True) for name in ("binary-case", "dark"))
    assert one["error"].equals(other["error"])
    shares = [part["p_benign"][1:].astype(float).to_numpy() for part in (one, other)]
    np.testing.assert_allclose(*shares, atol=1e-5)


def test_folders_tables_and_a_list_on_the_standard_input_name_images_each_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "list.csv").write_text("id,Path\n1,images/dark.png\n2,images/light.png\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"images/light.png\n\n")))
    run(folder, monkeypatch, "list.csv", "-", "images/middle.png")
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["image"].tolist() == ["images/dark.png", "images/light.png", "images/middle.png"]
    run(folder, monkeypatch, "images")
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 3


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["nowhere.png"], DataError, "nowhere.png does not exist"),
        (["models"], DataError, "models has no images"),
        (["images", "--out", "x.xlsx"], ParamsError, "must end in .csv, .json, .jsonl"),
        (["images", "--out", "images"], ParamsError, "images is a folder. Name a file"),
        (["images", "--out", "new/"], ParamsError, "A folder is for whole slides alone; a TIFF counts as one if it is"),
        (["images", "--out", "x.geojson"], ParamsError, "only the tiles of whole slides have places for GeoJSON"),
        (["images", "--model", "models/none"], SourceError, "there is no model models/none. There are models/"),
    ],
)
def test_a_mistake_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], kind: type[BiopsyError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run(folder, monkeypatch, *arguments)


def test_without_a_model_or_with_several_the_user_is_asked_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(SourceError, match="has no model"):
        run(tmp_path, monkeypatch, "a.png")
    for name in ("a", "b"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.json").write_text("{}")
    with pytest.raises(SourceError, match="several models: models/a, models/b"):
        run(tmp_path, monkeypatch, "a.png")


def test_an_array_that_is_no_image_is_a_row_with_its_reason(folder: Path) -> None:
    model = biopsy.load(folder / "models/binary-case")
    table = model.predict([np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3))])
    assert table["error"].str.contains("must be uint8").all()
    assert table["predicted"].tolist() == ["", ""]
    assert model.predict([b"no", b"image"])["error"].str.startswith(("image 0 is not", "image 1 is not")).all()


def test_the_figures_of_a_folder_are_those_of_exactly_its_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, metrics = folder / "models/binary-case", folder / "metrics/binary-case"
    model = biopsy.load(path)
    metrics.mkdir(parents=True)
    (metrics / "test.json").write_text('{"macro_f1": 0.75}')
    (metrics / "details.json").write_text('{"images": 40, "cases": 9}')
    for tree, told in ((dvc_hash(path), {"test": {"macro_f1": 0.75}, "images": 40, "cases": 9}), ("other", None)):
        outs = [
            {"path": f"metrics/binary-case/{name}", "md5": hashlib.md5((metrics / name).read_bytes()).hexdigest()}
            for name in ("test.json", "details.json")
        ]
        deps = {"path": "models/binary-case", "md5": tree}
        (folder / "dvc.lock").write_text(
            json.dumps({"stages": {"evaluate@binary-case": {"deps": [deps], "outs": outs}}})
        )
        assert figures_of_test(model, lambda found: figures_of(found, folder)) == told
    (folder / "dvc.lock").write_text("stages: [")
    assert figures_of_test(model, lambda found: figures_of(found, folder)) is None
    assert "warning: the figures of" in capsys.readouterr().err
