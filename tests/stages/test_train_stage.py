"""`stages/train.py` as a user runs it: real processes, killed and started again."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.core.job import Job
from biopsy.core.owned import note_made
from biopsy.core.params import parse_params, read_params
from biopsy.networks.backend import keras
from biopsy.training import train_model
from conftest import ROOT, assert_kind
from scratch import UNDRAWN, warm
from tiny import ORDER, make_project, read

pytestmark = pytest.mark.usefixtures("quick_pictures")

SHORT = {
    "resize.size": 32,
    "train.epochs": 24,
    "train.learning_rate": 0.2,
    "train.accumulate": 2,
    "train.early_stopping_patience": 2,
    "train.schedule.name": "plateau",
    "train.schedule.warmup_epochs": 0,
    "train.schedule.patience": 1,
    "augment.double_minority": True,
    "augment.copies": {"multiclass": {"flip": True, "brightness": 0.1}},
}
# oneDNN has no such kernels for a processor that is held to older instructions.
PRECISION = "float32" if "ONEDNN_MAX_CPU_ISA" in os.environ else "mixed_bfloat16"
# What a resumed training must find again beyond that: ADOPT's moments, a moving average of the weights, a cosine, the
# batches whose gradients wait for a step.
AVERAGED = SHORT | {
    "train.optimizer": "adopt",
    "train.weight_decay": 0.01,
    "train.ema": 0.8,
    "train.schedule.name": "cosine",
    "train.schedule.warmup_epochs": 1,
    "train.accumulate": 3,
    "train.precision": PRECISION,
    "train.epochs": 6,
    "train.early_stopping_patience": None,
}
ARGUMENTS = ("--task", "multiclass", "--protocol", "case")
NAME = "multiclass-case"


def outputs(root: Path) -> dict[str, bytes]:
    """Everything that the stage leaves, by path."""
    folders = (root / "models" / NAME, root / "metrics" / NAME, root / "plots" / NAME)
    return {str(p.relative_to(root)): p.read_bytes() for f in folders for p in sorted(f.rglob("[!.]*")) if p.is_file()}


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Let no run of this file draw its figures."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in UNDRAWN.items():
            patch.setenv(key, value)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nobody disturbs leaves."""
    return run_whole(tmp_path_factory.mktemp("unbroken"), SHORT)


def run_whole(root: Path, changes: dict[str, Any]) -> dict[str, bytes]:
    """Run the stage below `root` to its end, and return what it leaves."""
    from omegaconf import OmegaConf

    make_project(root, per_class=6)
    params = OmegaConf.load(ROOT / "params.yaml")
    for key, value in changes.items():
        OmegaConf.update(params, key, value)
    OmegaConf.save(params, root / "params.yaml")
    command = [sys.executable, str(ROOT / "stages/train.py"), *ARGUMENTS]
    subprocess.run(command, cwd=root, env=warm(ROOT), check=True, capture_output=True, timeout=300)
    return outputs(root)


@pytest.fixture
def project(tmp_path: Path, set_params: Callable[..., Path]) -> Path:
    make_project(tmp_path, per_class=6)
    set_params(SHORT)
    return tmp_path


def run_and_kill(root: Path, after_epochs: int, delay: float, number: int = signal.SIGKILL) -> subprocess.Popen[str]:
    """Start the stage; `delay` seconds after its n-th saved epoch, kill it.

    Only for SIGKILL it may begin with its imports done: a fork of the server dies with what asked for it, at once.
    """
    state = root / "models/.resume" / NAME / "state.npz"
    command = [sys.executable, str(ROOT / "stages/train.py"), *ARGUMENTS]
    env = warm(ROOT) if number == signal.SIGKILL else None
    process = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen, deadline = set(), time.monotonic() + 120
    while len(seen) < after_epochs:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the training saves nothing"
        if state.is_file():
            seen.add(state.stat().st_mtime_ns)
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(number)
    return process


def test_killed_at_an_epochs_end_and_within_one_and_kept_from_writing_it_ends_like_the_unbroken_one(
    project: Path, unbroken: dict[str, bytes], run_alone: Callable[..., Any]
) -> None:
    for after_epochs, delay in ((1, 0.0), (2, 0.05)):
        assert run_and_kill(project, after_epochs, delay).wait() == -signal.SIGKILL
    in_the_way = project / "metrics" / NAME
    in_the_way.write_text("a file where the folder of the figures should be")
    done = run_alone("train", *ARGUMENTS)
    assert done.returncode != 0
    assert "goes on after epoch" in done.stdout
    in_the_way.unlink()
    again = run_alone("train", *ARGUMENTS)  # trained, but not written: nothing is trained again
    assert again.returncode == 0, again.stderr
    epochs = len(unbroken[f"plots/{NAME}/train/plots/metrics/learning_rate.tsv"].split()) // 2 - 1
    assert f"goes on after epoch {epochs}," in again.stdout
    assert outputs(project) == unbroken


def test_a_killed_training_ends_alike_with_adopt_an_average_and_a_cosine(
    project: Path, run_alone: Callable[..., Any], set_params: Callable[..., Path], tmp_path_factory: Any
) -> None:
    set_params(AVERAGED)
    assert run_and_kill(project, 2, 0.03).wait() == -signal.SIGKILL
    again = run_alone("train", *ARGUMENTS)
    assert again.returncode == 0, again.stderr
    assert "goes on after epoch" in again.stdout
    whole = run_whole(tmp_path_factory.mktemp("averaged"), AVERAGED)
    assert outputs(project) == whole
    rates = whole[f"plots/{NAME}/train/plots/metrics/learning_rate.tsv"].decode().split()[3::2]
    assert len(set(rates)) == 6
    with zipfile.ZipFile(project / "models" / NAME / "model.keras") as archive:
        assert "float16" not in archive.read("config.json").decode()


def test_the_precision_is_that_of_the_training(
    project: Path, set_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str]()

    def stops(model: Any, *_: object, **__: object) -> Any:
        seen.extend({layer.compute_dtype for layer in model.layers if layer.weights})
        raise KeyboardInterrupt

    monkeypatch.setattr(train_model, "fit", stops)
    params = read_params(set_params(SHORT | {"train.precision": "mixed_bfloat16"}))
    with pytest.raises(KeyboardInterrupt):
        train_model.train_model(params, Job("multiclass", "case", 0, project), "code")
    keras.config.set_dtype_policy("float32")
    assert sorted(seen) == ["bfloat16", "float32"]  # the last layer's


def test_the_unbroken_run_cut_its_learning_rate_and_stopped_early(unbroken: dict[str, bytes]) -> None:
    """Otherwise the test above would not show that their counters survive a kill."""
    rates = unbroken[f"plots/{NAME}/train/plots/metrics/learning_rate.tsv"].decode().split()[3::2]
    assert len(set(rates)) > 1
    told = json.loads(unbroken[f"metrics/{NAME}/train.json"])
    assert told["epochs"] == told["best_epoch"] + SHORT["train.early_stopping_patience"] == len(rates) < 24


def test_a_training_learns_from_the_training_part_and_is_validated_on_the_validation_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_project(tmp_path).set_index("image_id")
    params = parse_params({"resize": {"size": 32}})
    stage = runpy.run_path(str(ROOT / "stages/train.py"))
    given: list[Any] = []

    class Seen(Exception):  # noqa: N818
        pass

    def fit(model: Any, params: Any, task: str, store: Any, targets: Any, n_train: int, **_: Any) -> None:
        given.extend((store[:n_train], store[n_train:], targets))
        raise Seen

    monkeypatch.setattr("biopsy.training.train_model.fit", fit)
    with pytest.raises(Seen):
        stage["train"](params, "multiclass", "case", tmp_path)
    targets = []
    for part, found in zip(("train", "val"), given[:2], strict=True):
        rows = table[table["part"] == part]
        files = [tmp_path / "data/resized" / f"{image_id}.png" for image_id in rows.index]
        np.testing.assert_array_equal(found, np.stack([cv2.imread(str(file))[..., ::-1] for file in files]))
        targets += map(ORDER.index, rows["multiclass"])
    assert given[2].tolist() == targets


def test_the_card_says_that_eight_validation_cases_are_too_few_for_a_temperature(unbroken: dict[str, bytes]) -> None:
    card = json.loads(unbroken[f"models/{NAME}/model.json"])
    assert card["temperature"] == 1
    assert card["calibration"]["cases"] == 8
    assert card["calibration"]["reason"].startswith("too few validation cases: 8")


def test_the_card_says_how_the_training_images_look_to_the_network(unbroken: dict[str, bytes]) -> None:
    card = json.loads(unbroken[f"models/{NAME}/model.json"])
    ranges = card["training"]["ranges"]
    assert ranges["width"]["median"] == card["preparation"]["resize"]["size"]  # `make_project` draws files of that size
    assert ranges["brightness"]["low"] < 60 < 190 < ranges["brightness"]["high"]  # and classes of 40 to 215


def test_a_training_draws_what_its_model_saw(unbroken: dict[str, bytes]) -> None:
    assert unbroken[f"plots/{NAME}/train/augment.png"].startswith(b"\x89PNG")


def test_ctrl_c_ends_cleanly_says_how_to_go_on_leaves_no_half_model_and_other_parameters_start_anew(
    project: Path, run_alone: Callable[..., Any], set_params: Callable[..., Path]
) -> None:
    process = run_and_kill(project, 1, 0.0, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "dvc repro" in stderr
    assert not (project / "models" / NAME).exists()
    set_params(SHORT | {"train.epochs": 2, "train.batch": 8})
    again = run_alone("train", *ARGUMENTS)
    assert again.returncode == 0, again.stderr
    assert "goes on" not in again.stdout
    assert read(project / "metrics" / NAME / "train.json")["epochs"] == 2


def test_where_no_decoded_images_can_be_kept_they_train_alike_from_memory(
    project: Path, unbroken: dict[str, bytes], run_alone: Callable[..., Any], set_params: Callable[..., Path]
) -> None:
    set_params(SHORT)
    (project / "a-file").touch()
    result = run_alone("train", *ARGUMENTS, env={"BIOPSY_CACHE": str(project / "a-file")})
    assert result.returncode == 0, result.stderr
    assert "stay in memory" in result.stderr
    curves = [name for name in unbroken if name.endswith(".tsv")]
    assert curves
    assert {name: outputs(project)[name] for name in curves} == {name: unbroken[name] for name in curves}
    assert not (project / "models/.resume" / NAME).exists()


def test_images_made_with_other_parameters_are_one_sentence(
    project: Path, run_stage: Callable[..., Any], set_params: Callable[..., Path]
) -> None:
    set_params(SHORT | {"resize.mode": "crop"})
    assert_kind(run_stage("train", *ARGUMENTS), "data/resized", "resize.mode: stretch, not crop", "dvc repro")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.backbone": "mobilenet2"}, ("model.backbone", "mobilenet2", "Did you mean 'mobilenetv2'?")),
        ({"model.weights": "imagenet"}, ("model.weights", "cnn")),
        ({"model.weights": "nowhere.h5"}, ("model.weights", "nowhere.h5")),
        ({"train.optimizer": "adamm"}, ("train.optimizer", "Did you mean 'adam'?")),
        ({"train.loss.name": "focal_loss"}, ("train.loss.name", "Did you mean 'focal'?")),
        ({"model.trainable": 99}, ("model.trainable", "99")),
        (
            {
                "train.learning_rate": 10,  # each step multiplies the head's weights by -19
                "train.optimizer": "sgd",
                "train.schedule.name": "constant",
                "model.head.l2": 1.0,
            },
            ("train.learning_rate: with 10", "Set a smaller one"),
        ),
    ],
)
def test_a_parameter_that_cannot_train_is_one_sentence_and_earlier_outputs_stay(
    project: Path,
    run_stage: Callable[..., Any],
    set_params: Callable[..., Path],
    change: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    for name in (f"models/{NAME}/model.keras", *(f"plots/{NAME}/train/{n}" for n in ("plots/metrics/x.tsv", "a.png"))):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(b"earlier")
    note_made(project / "models" / NAME, ["model.keras"])
    before = outputs(project)
    set_params(SHORT | change)
    assert_kind(run_stage("train", *ARGUMENTS), *words)
    assert outputs(project) == before


def test_a_file_that_holds_no_weights_is_named(
    project: Path, run_stage: Callable[..., Any], set_params: Callable[..., Path]
) -> None:
    other = project / "other.weights.h5"
    other.write_bytes(b"\x89HDF\r\n\x1a\n not really")
    set_params(SHORT | {"model.backbone": "mobilenetv2", "model.weights": str(other)})
    assert_kind(run_stage("train", *ARGUMENTS), "model.weights", str(other), "not a weights file of Keras")
