"""`train.backend` and `train.devices`: other engines and more devices give the same pixels, weights and answers."""

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import on_jax
from biopsy.core.errors import MachineError, ParamsError
from biopsy.core.params import parse_params
from biopsy.core.sections.train import Augment, Mix
from biopsy.core.stage import _choose_backend
from biopsy.networks.backend import tf
from biopsy.networks.model_file import load_model
from biopsy.training.augment import (
    affine,
    basic,
    erasing,
    medaugment,
    mix,
    pipeline,
    randaugment,
    sharpness,
    stain,
    tone,
)  # fmt: skip
from biopsy.training.augment.registry import OPERATIONS, check_strengths
from biopsy.training.devices import _check
from biopsy.training.fit import check_engine
from biopsy.training.inputs import array_batches, tf_batches
from biopsy.training.inputs.loader import ImageStore, training_items
from biopsy.training.tensors import arrays, philox
from conftest import ROOT
from scratch import environment, warm
from tiny import make_project

MODULES = (affine, basic, erasing, medaugment, mix, pipeline, randaugment, sharpness, stain, tone, array_batches)
SEED = (5, -7)


@pytest.fixture
def on_arrays(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], Any]:
    """Call something with NumPy in the place of TensorFlow, as training on JAX has it."""

    def call(function: Callable[..., Any], *given: Any) -> Any:
        with monkeypatch.context() as patch:
            for module in MODULES:
                patch.setattr(module, "tf", arrays.tf)
            return function(*given)

    return call


def steps() -> dict[str, Callable[[Any, Any], Any]]:
    """Everything that changes an image: the registry's entries, and each row of the policies' tables by itself."""
    found: dict[str, Callable[[Any, Any], Any]] = {}
    for name, operation in OPERATIONS.items():
        checked = check_strengths({name: operation.example}, "augment.every")
        found[name] = lambda image, seed, checked=checked: pipeline.augment_image(image, seed, checked)
    for name in randaugment.TABLE:
        found[f"randaugment {name}"] = lambda image, seed, name=name: randaugment.apply(
            name, image, np.float32(-1), 20, seed
        )
    for step in (*medaugment.PIXEL, *medaugment.SPATIAL):
        found[f"medaugment {step.__name__}"] = lambda image, seed, step=step: step(image, seed, 4)
    return found


STEPS = steps()


def test_numpy_makes_of_an_image_what_tensorflow_makes_of_it(on_arrays: Callable[..., Any]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.float32)
    seeds, changed = [(3, draw) for draw in range(4)], set()
    for name, step in STEPS.items():
        for seed in seeds:
            theirs = np.asarray(step(tf.constant(image), tf.constant(seed)))
            ours = on_arrays(step, image, seed)
            assert ours.dtype == np.float32, name
            np.testing.assert_allclose(ours, theirs, atol=5e-3, err_msg=name)
            changed |= {name} if np.abs(theirs - image).max() > 1 else set()
    assert set(STEPS) - changed == {"randaugment identity"}


@pytest.mark.parametrize("given", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.5, "cutmix": 0.3}], ids=str)
def test_numpy_mixes_a_batch_as_tensorflow_does(on_arrays: Callable[..., Any], given: dict[str, float]) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (6, 8, 8, 3)).astype(np.float32)
    targets = np.eye(6, dtype=np.float32)
    for draw in range(6):
        theirs = mix.mix_batch(tf.constant(images), tf.constant(targets), tf.constant((1, draw)), Mix(**given))
        ours = on_arrays(mix.mix_batch, images, targets, (1, draw), Mix(**given))
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


def test_random_numbers_are_tensorflows() -> None:
    seed = tf.constant(SEED)
    np.testing.assert_array_equal(philox.uniform((3, 50), SEED), tf.random.stateless_uniform((3, 50), seed))
    whole = tf.random.stateless_uniform((9,), seed, 2, 9, tf.int32)
    np.testing.assert_array_equal(philox.uniform((9,), SEED, 2, 9, np.int32), whole)
    np.testing.assert_array_equal(philox.fold_in(SEED, 12), tf.random.fold_in(seed, 12))
    np.testing.assert_array_equal(philox.split(SEED, 3), tf.random.split(seed, 3))
    np.testing.assert_allclose(philox.normal((5, 11), SEED), tf.random.stateless_normal((5, 11), seed), atol=1e-5)
    for alpha in (0.001, 0.4, 1.0, 3.0):
        theirs = tf.random.stateless_gamma((200,), seed, alpha, dtype=tf.float64)
        np.testing.assert_allclose(philox.gamma((200,), SEED, alpha), theirs, rtol=1e-9)


def test_batches_without_tf_data_are_those_of_tf_data_in_every_epoch(on_arrays: Callable[..., Any]) -> None:
    store = ImageStore.whole(np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3)).astype(np.uint8))
    targets = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 1])
    augment = Augment(
        every={"flip": True, "rot90": True}, double_minority=True, copies={"binary": {"brightness": 0.3}},
        mix=Mix(mixup=0.4),
    )  # fmt: skip
    items = training_items(targets, augment, "binary")

    def batches(engine: Any) -> list[Any]:
        given = {"classes": 2, "batch": 4, "seed": 3, "epochs": range(1, 3)}
        made = engine.training_set(store, items, augment, "binary", **given)
        rows = np.arange(26, dtype=np.float32).reshape(13, 2)
        orders = np.stack([np.roll(np.arange(13), epoch) for epoch in range(2)])
        named = engine.join_extra(made, rows, orders, 4, training=True, named=True)
        features = engine.feature_set(rows, targets[:, None], orders[:, :10] % 10, 3)
        plain = engine.plain_set(store, targets[5:], classes=2, start=5, batch=3)
        tailed = engine.join_extra(plain, rows[:5], np.arange(5)[None], 3, training=False)
        return [list(each) for each in (made, named, features, plain, tailed)]

    for ours, theirs in zip(on_arrays(batches, array_batches), batches(tf_batches), strict=True):
        assert len(ours) == len(theirs) > 1
        for one, other in zip(ours, theirs, strict=True):
            for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
                assert a.dtype == b.numpy().dtype
                np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/on_jax.py tells of its one process."""
    return trained_on("jax", tmp_path_factory.mktemp("jax"))


def trained_on(backend: str, root: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    make_project(root)
    (root / "stages").symlink_to(ROOT / "stages")
    params = OmegaConf.load(ROOT / "params.yaml")
    params.train = OmegaConf.merge(
        params.train,
        {"backend": backend, "epochs": 4, "batch": 16, "ema": 0.9, "monitor": "val_macro_f1"},
    )
    params.resize = {**params.resize, "size": 32, "mode": "stretch"}
    OmegaConf.save(params, root / "params.yaml")
    usual = {k: v for k, v in warm(ROOT).items() if k not in ("BIOPSY_TEST_SERVER", "KERAS_BACKEND")}
    command = [sys.executable, str(ROOT / "tests/on_jax.py"), *[backend] * (backend != "jax")]
    done = subprocess.run(command, cwd=root, env=usual, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "kept": root / "kept", "stderr": done.stderr}


@pytest.mark.slow
def test_the_stage_trains_on_jax_and_no_module_imports_tensorflow(told: dict[str, Any]) -> None:
    assert told["tensorflow"] == []
    assert told["status"] == [0, 130, 0], told["stderr"][-3000:]
    card = json.loads((told["kept"] / "model.json").read_text())
    assert card["params"]["train"]["backend"] == "jax"


@pytest.mark.slow
def test_a_training_on_jax_that_was_stopped_ends_with_the_bytes_of_the_unbroken_one(told: dict[str, Any]) -> None:
    assert told["files"] > 4
    assert told["differ"] == []


@pytest.mark.slow
def test_tensorflow_gives_the_answers_of_a_model_that_was_trained_on_jax(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_answers(told, monkeypatch)


def check_answers(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(told["kept"].parent)
    monkeypatch.setattr(on_jax, "FOLDERS", ("kept",))
    here = on_jax.answers()
    assert load_model(told["kept"])[1].task == "multiclass"
    np.testing.assert_allclose(here, told["answers"], atol=1e-5)
    assert np.ptp(here) > 0.01
    np.testing.assert_allclose(here := on_jax.looks(), told["looks"], atol=1e-6)
    assert np.ptp(here) > 0.01


@pytest.mark.slow
def test_the_stage_trains_on_pytorch_goes_on_with_equal_bytes_and_tensorflow_gives_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    told = trained_on("torch", tmp_path)
    assert told["tensorflow"] == []
    assert told["status"] == [0, 130, 0], told["stderr"][-3000:]
    assert json.loads((told["kept"] / "model.json").read_text())["params"]["train"]["backend"] == "torch"
    assert told["files"] > 4
    assert told["differ"] == []
    check_answers(told, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["jax", "tensorflow"])
def test_two_devices_end_with_the_weights_of_one(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if engine == "jax":
        found = request.getfixturevalue("told")["shared"]
    else:
        script = tmp_path / "stages/two_devices.py"  # the server that has imported TensorFlow runs stages
        script.parent.mkdir()
        shutil.copy(ROOT / "tests/two_devices.py", script)
        done = subprocess.run(
            [sys.executable, str(script)], env=warm(ROOT), capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "ran out of data" not in done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 2
    assert found["weights"] < 1e-5
    assert found["loss"] < 1e-5
    assert found["learnt"] > 1e-3


@pytest.mark.slow
def test_two_processes_go_on_and_end_with_the_weights_of_one_though_one_of_them_is_killed(told: dict[str, Any]) -> None:
    found = told["shared"]["workers"]
    assert found["said"].startswith("one of the 2 processes of train.workers was killed. The epochs that are done")
    assert found["epochs"] == 2  # the first was one process's, the second theirs, the third, in which one died, neither
    assert found["left"] == ["images.npy", "live", "state.npz"]
    assert found["weights"] < 1e-5
    assert found["loss"] < 1e-5


@pytest.mark.slow
def test_ray_train_ends_with_the_weights_of_one_process() -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    usual = environment(ROOT, KERAS_BACKEND="jax", XLA_FLAGS=on_jax.JAX["XLA_FLAGS"])
    command = [sys.executable, str(ROOT / "tests/two_devices.py"), "ray"]
    done = subprocess.run(command, cwd=ROOT, env=usual, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["weights"] < 1e-5


@pytest.mark.slow
def test_the_benchmark_for_a_gpu_runs_on_a_processor(told: dict[str, Any]) -> None:
    assert "images/s" in told["gpu"]
    assert "no peak known" in told["gpu"]


def test_the_benchmark_leaves_out_what_is_not_installed_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = runpy.run_path(str(ROOT / "benchmarks/gpu.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    assert gpu["installed"](["jax", "torch"]) == ["jax"]
    assert capsys.readouterr().out == "torch is left out: not installed: torch\n"


def test_what_another_engine_cannot_do_is_one_sentence_with_the_way_out(
    set_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(set_params({"train.backend": "torch"}).parent)
    monkeypatch.setattr("biopsy.core.stage.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"train.backend is torch, which .* does not have. Run `pip install torch`"):
        _choose_backend()
    with pytest.raises(ParamsError, match=r"train.devices is 'all'.*PyTorch.*train.backend to jax or tensorflow"):
        parse_params({"train": {"backend": "torch", "devices": "all"}})
    with pytest.raises(
        ParamsError, match=r"train.workers is 2, and TensorFlow's .*20585.*Set train.backend to jax, or"
    ):
        parse_params({"train": {"workers": 2}})
    stored = {"trainable": "none", "weights": "imagenet", "feature_views": 1}
    with pytest.raises(ParamsError, match=r"train.workers is 2, and model.feature_views trains a head on stored"):
        parse_params({"train": {"workers": 2, "backend": "jax"}, "model": stored})
    with pytest.raises(MachineError, match=r"train.backend is jax, and Keras runs on tensorflow here.*KERAS_BACKEND"):
        check_engine(parse_params({"train": {"backend": "jax"}}).train)
    with pytest.raises(ParamsError, match=r"uses tf.nn, which only TensorFlow has. Set train.backend to tensorflow"):
        arrays.tf.nn.relu(1)
    train = parse_params({"train": {"accumulate": 2}}).train
    with pytest.raises(ParamsError, match=r"train.accumulate is 2.*2 devices.*train.devices to one"):
        _check(train, 2, 4, 4)
    train = parse_params({}).train
    with pytest.raises(ParamsError, match=r"train.batch: a batch of an epoch holds 2 images for 4 devices"):
        _check(train, 4, 2, 4)
    with pytest.raises(ParamsError, match=r"train.devices is 'all'.*validation has 3 images for 4 devices"):
        _check(train, 4, 4, 3)
