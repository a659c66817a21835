"""params.yaml: typed, bounded, checked before any work, one sentence a mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biopsy.core.errors import ParamsError
from biopsy.core.params import Params, read_params
from conftest import assert_kind


def test_the_shipped_parameters_are_valid(set_params: Callable[..., Path]) -> None:
    assert read_params(set_params()).data.source == "sample"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ingest.columns.label": "x"}, ["'ingest.columns.label' is now labels.tasks.<task>.column"]),
        ({"train.bacth": 3}, ["'train.bacth'", "Did you mean 'batch'?"]),
        ({"trian": {}}, ["'trian'", "Did you mean 'train'?"]),
        ({"train.batch": "many"}, ["'train.batch'", "integer", "'many'"]),
        ({"train.batch": 0}, ["'train.batch'", "greater than or equal to 1", "Got 0"]),
        ({"train.batch": 1.5}, ["'train.batch'", "integer", "1.5"]),
        ({"data.source": "sampel"}, ["'data.source'", "'sample', 'breakhis' or 'local'", "Did you mean 'sample'?"]),
        ({"protocols": ["imag"]}, ["'protocols.0'", "image, slide, case, fold1", "'imag'"]),
        ({"protocols": ["case-6of5"]}, ["case-6of5", "i <= k"]),
        ({"protocols": ["case-cv"]}, ["'protocols.0'", "case-cv5x3", "'case-cv'"]),
        ({"protocols": ["fold1-cv5"]}, ["'protocols.0'", "'fold1-cv5'"]),
        ({"protocols": ["slide-cv2"]}, ["slide-cv2", "2 folds", "k >= 3"]),
        ({"protocols": ["case-1of1"]}, ["case-1of1", "1 fold,", "k >= 3"]),
        ({"protocols": ["case-cv5x101"]}, ["101 repeats", "at most 100"]),
        ({"protocols": ["case-cv5"], "stain.method": "macenko"}, ["case-cv5", "stain.reference", "stain.method"]),
        ({"protocols": ["case", "case"]}, ["'protocols'", "once"]),
        ({"protocols": []}, ["'protocols'", "at least 1"]),
        ({"tasks": ["binari"]}, ["tasks lists 'binari'", "Did you mean 'binary'?"]),
        ({"split.train": 0.9}, ["split.train + split.val + split.test must be 1", "1.2"]),
        ({"data.source": "local"}, ["data.local.csv", "data.local.images"]),
        ({"protocols": ["fold1"]}, ["fold1", "split.fold_table"]),
        ({"model.trainable": "none", "model.backbone": "mobilenetv2"}, ["model.trainable", "model.weights"]),
        ({"ingest.conflicts": "keep_XX"}, ["'ingest.conflicts'", "keep_"]),
        ({"augment.mix.mixpu": 0.2}, ["'augment.mix.mixpu'", "Did you mean 'mixup'?"]),
        ({"train.schedule.name": "cosin"}, ["'train.schedule.name'", "Did you mean 'cosine'?"]),
        ({"seed": -1}, ["'seed'", "-1"]),
        ({"train.learning_rate": float("nan")}, ["'train.learning_rate'"]),
    ],
)
def test_a_mistake_names_key_allowed_and_received(
    set_params: Callable[..., Path], change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ParamsError) as error:
        read_params(set_params(change))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"train: [1, 2", "not valid YAML"),
        (b"train:\n\tbatch: 3\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"seed: 0\nseed: 1\n", "duplicate"),
        (b"- a\n", "sections"),
        (b"seed: ${nowhere}\n", "nowhere"),
    ],
)
def test_a_file_that_is_not_our_yaml_is_one_sentence(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=word):
        read_params(path)


def test_a_missing_file_or_a_folder_says_how_to_get_it_back(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="git checkout"):
        read_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="git checkout"):
        read_params(tmp_path)


@pytest.mark.parametrize("stage", ["fetch", "ingest", "impute", "split", "resize"])
def test_every_stage_refuses_a_bad_parameter_before_it_writes(
    stage: str, tmp_path: Path, set_params: Callable[..., Path], run_stage: Callable[..., Any]
) -> None:
    set_params({"train.batch": 0})
    assert_kind(run_stage(stage), "train.batch")
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: {learning_rate: 1e-4}")
    assert read_params(path).train.learning_rate == Params().train.learning_rate == 1e-4
