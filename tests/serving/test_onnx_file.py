"""An .onnx file predicts as the model it was made of, without heavy packages; a file that is not ours is rejected."""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import biopsy
from biopsy.core.errors import MachineError, SourceError
from biopsy.serving import onnx_file, onnx_metadata
from tiny_onnx import DARK, network, write_onnx


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "dark.onnx")


def test_a_file_predicts_paths_bytes_and_arrays_alike(path: Path, tmp_path: Path) -> None:
    pixels = np.full((48, 64, 3), 40, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    table = biopsy.load(path).predict([tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), pixels])
    assert table["p_malignant"].to_numpy() == pytest.approx(1 / (1 + np.exp(0.03 * 40 - 3.81)), abs=1e-5)
    assert set(table["predicted"]) == {"malignant"}


def edited(content: bytes) -> bytes:
    return content.replace(b'"threshold": 0.5', b'"threshold": 0.1')


def flipped(content: bytes) -> bytes:
    place = content.index(b"kernel")
    return content[: place - 10] + bytes([content[place - 10] ^ 1]) + content[place - 9 :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edited, "was changed since its export"),
        (flipped, r"was changed since its export|truncated"),
        (lambda _: b"", "not made by `biopsy export`, or is truncated"),
        (lambda _: b"hello, I am a text file", "truncated, or no ONNX file"),
        (lambda _: network(), "not made by `biopsy export`"),
        (lambda content: content + network(), "was changed since its export"),
    ],
)
def test_a_file_that_was_changed_or_is_not_ours_is_rejected_in_a_sentence(
    path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    with pytest.raises(SourceError, match=words):
        biopsy.load(path)


def test_a_file_that_is_cut_anywhere_is_rejected(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(SourceError, match=r"truncated|changed since its export"):
            onnx_file.open_file(path)


def test_a_missing_package_is_named_with_its_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r"has no package onnxruntime.*\.\[predict\]"):
        biopsy.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none.onnx is not a file"):
        biopsy.load(tmp_path / "none.onnx")


def test_a_file_of_a_later_version_asks_for_an_update(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_metadata, "SCHEMA", 2)
    write_onnx(path)
    monkeypatch.setattr(onnx_metadata, "SCHEMA", 1)
    with pytest.raises(SourceError, match=r"later version of Biopsy \(schema 2\)"):
        biopsy.load(path)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (network(size=64), "is not what its card says"),
        (network(classes=3), "does not fit the card's 2 classes"),
        (network()[:-40], "cannot be loaded by ONNX Runtime|truncated"),
        (b"", "cannot be loaded by ONNX Runtime"),
    ],
)
def test_a_network_that_its_card_does_not_describe_is_rejected(tmp_path: Path, made: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        biopsy.load(write_onnx(tmp_path / "x.onnx", made=made))


def test_a_card_of_another_version_is_rejected(path: Path) -> None:
    card = DARK.model_dump(mode="json") | {"a_field_of_tomorrow": 1}
    path.write_bytes(onnx_metadata.seal(network(), {"card": card}))
    with pytest.raises(SourceError, match="another version of Biopsy"):
        biopsy.load(path)
