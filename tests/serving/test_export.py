"""`biopsy export`: the file answers as Keras does, says what it is, and is the same each time."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from onnxruntime import quantization

import biopsy
from biopsy.cli import command
from biopsy.core.errors import MachineError, ParamsError, SourceError
from biopsy.core.files import sha256
from biopsy.core.sections.data import Resize, Tiles
from biopsy.core.shards import write_shard
from biopsy.images.preparation.record import Preparation, write_preparation
from biopsy.networks.answers import BATCH
from biopsy.networks.backend import keras
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving import model
from biopsy.serving.export import run as export
from biopsy.serving.export import runtimes
from biopsy.serving.export.quantise import quantise
from biopsy.serving.export.runtimes import Ask, export_as
from biopsy.serving.onnx_file import Network, open_file
from biopsy.serving.similar import chunks
from cards import CARD
from schemes import BREAKHIS
from tiny import make_project
from tiny_onnx import DARK, SIZE, write_model, write_onnx

TABLES = {"labels": "interim/labels", "split": "splits/case"}
TILES = Preparation(max_pixels=10_000, resize=Resize(size=SIZE, mode="tiles", tiles=Tiles(px=32, rows=1, columns=2)))
TILED = DARK.model_copy(update={"preparation": TILES})
MANY = CARD.model_copy(update={"task": "multiclass", "labels": BREAKHIS, "preparation": DARK.preparation})


def write_tree(root: Path, preparation: Preparation) -> None:
    """Prepared images as the stages keep them."""
    rng = np.random.default_rng(0)
    (root / "data/resized").mkdir(parents=True)
    for number in range(4):
        pixels = np.full((preparation.views * SIZE, SIZE, 3), rng.integers(0, 255, 3), np.uint8)
        cv2.imwrite(str(root / f"data/resized/{number}.png"), pixels)
    for folder in ("data/resized", "data/stained/case"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        write_preparation(root / folder, preparation)


def test_prepared_images_that_lie_in_archives_are_compared_too(tmp_path: Path) -> None:
    write_tree(tmp_path, TILES)
    expected = export.images_to_compare(tmp_path, TILED)
    files = sorted((tmp_path / "data/resized").glob("*.png"))
    for number in range(2):
        archive = tmp_path / f"data/resized/0000{number}-of-00002.tar"
        write_shard(archive, ((Path(file.name), file.read_bytes()) for file in files[2 * number :][:2]))
    for file in files:
        file.unlink()
    images, what = export.images_to_compare(tmp_path, TILED)
    assert what == expected[1] == "prepared images"
    assert np.array_equal(images, expected[0])


COOL, WARM = (card.model_copy(update={"temperature": t}) for card, t in ((TILED, 1.7), (MANY, 0.6)))
TURNED = COOL.model_copy(update={"params": {"model": {"tta": "d4"}}})


@pytest.mark.parametrize(
    "card", [DARK, TILED, MANY, TURNED, WARM], ids=["binary", "tiles", "multiclass", "cool and turned", "warm"]
)
def test_the_file_gives_the_probabilities_of_the_folder(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "learnt_from", lambda *_: frozenset([b"of eight", b"letters."]))
    labels = tmp_path / "data/interim/labels.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("image_id,mpp,width,height\n0,0.5,700,460\n")
    write_model(tmp_path / "models/m", card.model_copy(update={"data": {"labels": sha256(labels)}}))
    write_tree(tmp_path, card.preparation)
    path, difference = export.export_model(
        tmp_path / "models/m", root=tmp_path, about={"figures": {"test": {"accuracy": 0.5}}}
    )
    assert path == tmp_path / "exports/m.onnx"
    assert difference <= 1e-5
    rng = np.random.default_rng(1)
    images = [(rng.integers(0, 128, 3) + rng.integers(0, 128, (32, 64, 3))).astype(np.uint8) for _ in range(3)]
    given, wanted = (biopsy.load(p).predict(images) for p in (path, tmp_path / "models/m"))
    columns = [c for c in wanted if c.startswith("p_")]
    assert wanted[columns[0]].nunique() == 3
    assert given[columns].to_numpy() == pytest.approx(wanted[columns].to_numpy(), abs=2e-5)
    assert given["predicted"].tolist() == wanted["predicted"].tolist()
    content, facts, read = open_file(path)
    assert read == biopsy.load(tmp_path / "models/m").card
    assert facts["notice"] == NOTICE
    assert biopsy.load(path).learnt == {b"of eight", b"letters."}
    assert json.loads(facts["figures"]) == {"test": {"accuracy": 0.5}}
    assert json.loads(facts["scale"]) == {"um_per_pixel": 0.5, "width": 700, "height": 460}
    assert json.loads(facts["parity"]).items() >= {"images": 4, "of": "prepared images"}.items()
    again, _ = export.export_model(
        tmp_path / "models/m", tmp_path / "b.onnx", tmp_path, {"figures": {"test": {"accuracy": 0.5}}}
    )
    assert again.read_bytes() == content


def test_no_network_sees_more_squares_at_once_than_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 32 images of six tiles at once, an export took 7 GB."""
    seen: dict[str, list[int]] = {"ask": [], "probabilities": []}

    def watch(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def ask(self: Any, views: Any, *outputs: str) -> Any:
            seen[name].append(views.shape[0] * views.shape[1])
            return real(self, views, *outputs)

        monkeypatch.setattr(kind, name, ask)

    watch(Network, "ask")
    watch(export.Model, "probabilities")
    write_model(tmp_path / "models/m", TILED)
    export.export_model(tmp_path / "models/m", root=tmp_path)
    assert seen == {"ask": [BATCH, BATCH], "probabilities": [BATCH, BATCH]}  # 32 drawn images of two tiles
    write_tree(tmp_path, TILES)
    files = sorted((tmp_path / "data/resized").glob("*.png")) * 5
    assert [len(images) for images in chunks(files, TILED)] == [BATCH // 2, 20 - BATCH // 2]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_what_networks_are_made_of_can_be_exported(
    tmp_path: Path, precision: str, activation: str, caplog: pytest.LogCaptureFixture
) -> None:
    keras.config.set_dtype_policy(precision)
    try:
        write_model(tmp_path / "models/m", DARK, activation=activation)
    finally:
        keras.config.set_dtype_policy("float32")
    assert export.export_model(tmp_path / "models/m", root=tmp_path)[1] <= 1e-5
    assert "not supported" not in caplog.text


def test_other_probabilities_than_those_of_keras_are_no_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "models/m", DARK)
    answers = export.Model.probabilities
    monkeypatch.setattr(export.Model, "probabilities", lambda *given: answers(*given) + 0.001)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"gives other probabilities as ONNX \(by up to 0.001"):
        command(["export", "models/m"])
    assert not list(tmp_path.rglob("*.onnx"))
    assert "compared on synthetic ones" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "package", "card"),
    [
        ("openvino", "openvino", TURNED),
        ("litert", "ai_edge_litert", TURNED),
        ("litert", "ai_edge_litert", MANY),
    ],
)
def test_another_format_answers_as_keras_does_and_its_metadata_name_its_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    package: str,
    card: Card,
) -> None:
    pytest.importorskip(package, reason=f"pip install -e .[{kind}]")
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models/m", card)
    write_tree(tmp_path, card.preparation)
    command(["export", "models/m", "--format", kind])
    suffix = {"openvino": ".xml", "litert": ".tflite"}[kind]
    assert (
        f"wrote exports/m{suffix}; its probabilities differ from those of Keras by at most" in capsys.readouterr().out
    )
    metadata = json.loads((tmp_path / f"exports/m{suffix}.json").read_text())
    assert metadata["notice"] == NOTICE
    assert metadata["file_sha256"] == {
        name: sha256(tmp_path / "exports" / name) for name in sorted(metadata["file_sha256"])
    }


def test_a_format_that_answers_otherwise_leaves_no_file_and_mistakes_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = write_onnx(tmp_path / "exports/m.onnx")
    network, off = Network(onnx, *open_file(onnx)), [2e-4]

    def fake(stem: Path, content: bytes, model: object) -> tuple[Path, Ask]:
        (made := stem.with_suffix(".xml")).write_bytes(content)
        return made, lambda images: network(images[:, None]) + off[0]

    monkeypatch.setitem(runtimes.MAKERS, "openvino", fake)
    monkeypatch.setattr(runtimes, "open_models", lambda _: SimpleNamespace(probabilities=network))
    with pytest.raises(SourceError, match=r"m\.onnx gives other probabilities as \.xml \(by up to 0\.0002"):
        export_as("openvino", [], onnx, tmp_path)
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["m.onnx"]
    off[0] = 5e-5
    assert export_as("openvino", [], onnx, tmp_path)[0] == tmp_path / "exports/m.xml"
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == ["m.onnx", "m.xml", "m.xml.json"]
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MachineError, match=r"\.\[litert\]"):
        export_as("litert", [], onnx, tmp_path)
    with pytest.raises(ParamsError, match=r"--int8 is for \.onnx files"):
        command(["export", "m", "--int8", "--format", "openvino"])


def test_an_int8_file_is_smaller_and_says_what_it_lost_and_one_that_loses_too_much_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    data = {what: sha256(tmp_path / f"data/{path}.csv") for what, path in TABLES.items()}
    preparation = DARK.preparation.model_copy(update={"max_pixels": 50_000_000})
    card = DARK.model_copy(update={"data": data, "preparation": preparation, "threshold": 0.01})
    write_model(tmp_path / "models/m", card, channels=256)
    floats = export.convert(biopsy.load(tmp_path / "models/m").network, card)
    quantize, asked = quantization.quantize_static, set[int]()

    def watched(model: Any, made: Any, reader: Any, **options: Any) -> None:
        parts = list(iter(reader.get_next, None))
        asked.update(len(array) for part in parts for array in part.values())
        shown = iter(parts)
        monkeypatch.setattr(reader, "get_next", lambda: next(shown, None))
        quantize(model, made, reader, **options)

    monkeypatch.setattr(quantization, "quantize_static", watched)
    small, about, speed = quantise(floats, card, tmp_path / "models/m", 0.1)
    assert (about["bytes"], about["bytes_of_floats"]) == (len(small), len(floats))
    assert len(small) < 0.6 * len(floats)
    assert about["figures"].keys() == about["figures_of_floats"].keys() >= {"macro_f1", "roc_auc"}
    assert 0 < about["probabilities_differ_by_at_most"] < 0.1
    assert speed > 0
    assert asked == {1}  # it keeps all that a network computes of what is asked: 5 GB for five images of six tiles
    monkeypatch.chdir(tmp_path)
    command(["export", "models/m", "--int8-loss", "0.1"])
    told = capsys.readouterr().out
    assert f"; probabilities differ by up to {about['probabilities_differ_by_at_most']:g}\n" in told
    assert "m-int8.onnx; before int8, probabilities differed from those of Keras by at most" in told
    content, facts, _ = open_file(tmp_path / "exports/m-int8.onnx")
    assert json.loads(facts["int8"]) == about | {"test_figures_of_floats": None}
    assert json.loads(facts["parity"])["of"] == "prepared images, before int8"
    assert content.startswith(small)  # the same bytes again, and the metadata
    with pytest.raises(SourceError, match=r"as int8, .* less than with floats; -1 is allowed"):
        quantise(floats, card, tmp_path / "models/m", -1)
    (tmp_path / "data/resized/A-000.png").unlink()
    with pytest.raises(SourceError, match="needs the training and validation images"):
        quantise(floats, card, tmp_path / "models/m", 0.1)


def test_a_file_of_another_kind_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"must end in .onnx"):
        export.export_model(tmp_path, tmp_path / "x.pt")
