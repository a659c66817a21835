"""params.yaml: typed, bounded, checked before any work, one sentence a mistake."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biopsy.core import params as parameters
from biopsy.core.errors import ParamsError
from biopsy.core.params import Params, parse_params, read_params
from conftest import assert_kind


def test_the_shipped_parameters_are_valid(set_params: Callable[..., Path]) -> None:
    assert read_params(set_params()).data.source == "sample"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ingest.columns.label": "x"}, ["'ingest.columns.label' is now labels.tasks.<task>.column"]),
        ({"evaluate.bootstrap": 1000}, ["'evaluate.bootstrap' is not needed any more", "Remove it"]),
        ({"train.bacth": 3}, ["'train.bacth'", "Did you mean 'batch'?"]),
        ({"trian": {}}, ["'trian'", "Did you mean 'train'?"]),
        ({"train.batch": "many"}, ["'train.batch'", "integer", "'many'"]),
        ({"train.batch": "x" * 5000}, [f"Got '{'x' * 199}...."]),
        ({"train.batch": 0}, ["'train.batch'", "greater than or equal to 1", "Got 0"]),
        ({"train.batch": 1.5}, ["'train.batch'", "integer", "1.5"]),
        ({"protocols": ["imag"]}, ["'protocols.0'", "image, slide, case, fold1", "'imag'"]),
        ({"protocols": ["case-6of5"]}, ["case-6of5", "i <= k"]),
        ({"protocols": ["case-cv"]}, ["'protocols.0'", "case-cv5x3", "'case-cv'"]),
        ({"protocols": ["fold1-cv5"]}, ["'protocols.0'", "'fold1-cv5'"]),
        ({"protocols": ["slide-cv2"]}, ["slide-cv2", "2 folds", "k >= 3"]),
        ({"protocols": ["case-1of1"]}, ["case-1of1", "1 fold,", "k >= 3"]),
        ({"protocols": ["case-cv5x101"]}, ["101 repeats", "at most 100"]),
        ({"protocols": ["case", "case"]}, ["'protocols'", "once"]),
        ({"protocols": []}, ["'protocols'", "at least 1"]),
        ({"tasks": ["binari"]}, ["tasks lists 'binari'", "Did you mean 'binary'?"]),
        ({"split.train": 0.9}, ["split.train + split.val + split.test must be 1", "1.2"]),
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


@pytest.mark.parametrize(("given", "key"), [(2.5, "train.epochs"), ({"binary": 2.5}, "train.epochs.binary")])
def test_a_value_that_may_be_of_two_kinds_is_told_of_the_one_that_was_meant(given: Any, key: str) -> None:
    with pytest.raises(ParamsError) as error:
        parse_params({"train": {"epochs": given}})
    assert str(error.value) == f"params.yaml: '{key}' must be a valid integer. Got 2.5."


def test_very_many_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    names = parameters._names
    monkeypatch.setattr(parameters, "_names", lambda error: looked.append(error) or names(error))
    with pytest.raises(ParamsError, match="more errors"):
        parse_params({"train": {f"k{number}": 1 for number in range(300)}})
    assert len(looked) < 300  # and not each with each


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"train: [1, 2", "not valid YAML"),
        (b"train:\n\tbatch: 3\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"seed: 0\nseed: 1\n", "duplicate"),
        (b"- a\n", "sections"),
        (b"train: {learning_rate: .inf}\n", "'train.learning_rate' must be a finite number"),
        (b"train: {clip_norm: 1e300}\n", "'train.clip_norm' must be a finite number of at most 1e"),
        (b"data: {breakhis: {max_gb: -.inf}}\n", "'data.breakhis.max_gb' must be a finite number"),
        (b"augment: {every: {rotate: .nan}}\n", "'augment.every.rotate' must be a finite number"),
        (b"tune: {space: {a: {low: 1, high: 1e300}}}\n", "'tune.space.a.high' must be a finite number"),
        (b"tune: {space: {a: {choices: [1, .inf]}}}\n", "choices.1.' must be a finite number"),
        (b"tune: {space: {a: {low: 1, choices: [1, 2]}}}\n", "tune.space.a has choices and an interval.*defaults"),
        (b"train: {cache_mb: 1" + b"0" * 400 + b"}\n", "a number of 401 digits"),
        (
            b"a: &a ["
            + b"x," * 9
            + b"]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c, c, b"*%c," % (c - 1) * 9) for c in range(ord("b"), ord("j"))),
            "aliases .* expand to more than 100,000 values",
        ),
        (b"a: &a [*a]\n", "contains its own alias"),
        (b"seed: " + b"[" * 3000 + b"]" * 3000, "line 1: more than 50 levels of brackets"),
        (b"{seed: " * 60 + b"0" + b"}" * 60, "more than 50 levels"),
        (b"seed: 0 # " + b"x" * 2_000_000, "more than any file of parameters"),
    ],
)
def test_a_file_that_is_not_our_yaml_is_one_sentence(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=word):
        read_params(path)


@pytest.mark.parametrize("text", ["seed: 1\ndata: {sample: {seed: '${seed}'}}", "data: {slides: 'a/${oc.env:HOME}'}"])
def test_a_value_that_refers_to_another_is_rejected_since_dvc_would_miss_its_change(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml: 'data\.s.*Write the value itself"):
        read_params(path)


def test_errors_that_are_not_shown_are_counted(set_params: Callable[..., Path]) -> None:
    wrong = {"seed": -1, "train.batch": 0, "train.accumulate": 0, "resize.size": 1, "ingest.min_size": 0}
    with pytest.raises(ParamsError, match=r"2 more errors in .*params\.yaml\.$"):
        read_params(set_params(wrong))
    del wrong["seed"]
    with pytest.raises(ParamsError, match=r"1 more error in .*params\.yaml\.$"):
        read_params(set_params(wrong))


def test_an_anchor_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: &seed 7\ndata: {sample: {seed: *seed}}\n")
    assert read_params(tmp_path / "params.yaml").data.sample["seed"] == 7


def test_a_file_without_permission_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\n")

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError):  # which `errors` puts into words
        read_params(tmp_path / "params.yaml")


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
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"params.yaml", stage}  # the stage's lock


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: {learning_rate: 1e-4}")
    assert read_params(path).train.learning_rate == Params().train.learning_rate == 1e-4


def test_relative_paths_of_an_experiment_in_a_folder_of_its_own_begin_in_the_project(
    set_params: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc exp run --temp` and the queue run in .dvc/tmp/exps, which holds what git tracks and nothing else."""
    experiment = tmp_path / ".dvc/tmp/exps/standalone/abc"
    (tmp_path / "images").mkdir()
    for folder in (tmp_path, experiment):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tracked.csv").touch()
    (tmp_path / "cnn_small").touch()  # no path: model.backbone
    path = set_params(
        {
            "data.source": "local", "data.local.csv": "tracked.csv", "data.local.images": "images",
            "split.fold_table": "nowhere.csv",
        }
    )  # fmt: skip
    monkeypatch.chdir(experiment)
    params = read_params(path)
    assert params.data.local["csv"] == "tracked.csv"
    assert params.data.local["images"] == str(tmp_path / "images")
    assert params.split.fold_table == "nowhere.csv"
    assert params.model.backbone == "cnn_small"
    monkeypatch.chdir(tmp_path)
    assert read_params(path).data.local["images"] == "images"


def test_a_class_that_is_a_list_is_a_mistake_in_one_sentence() -> None:
    task = {"column": "label", "classes": [["a"], "b"]}
    with pytest.raises(ParamsError, match=r"labels\.tasks\.label\.classes.*each class in the list must be a name"):
        parse_params({"labels": {"tasks": {"label": task}}})
