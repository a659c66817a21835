"""Optimisers, schedules and averages: that each parameter of the section `train` does what it says."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopsy.core.errors import ParamsError
from biopsy.core.params import parse_params
from biopsy.core.sections.train import Augment, Train
from biopsy.evaluation.outcome import figures, make_outcome
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model
from biopsy.training.accumulation import LastStep
from biopsy.training.averaging import AveragedWeights, check_average
from biopsy.training.fit import class_weights, fit
from biopsy.training.inputs.loader import ImageStore, check_copies, training_items
from biopsy.training.losses import find as find_loss
from biopsy.training.monitor import best_epoch, defined, early_stopping, score
from biopsy.training.optimizers.registry import OPTIMIZERS, make_optimizer
from biopsy.training.progress import still_improving
from biopsy.training.schedules import learning_rate

TARGETS = np.array([0, 1] * 15)


def train_section(**train: Any) -> Train:
    return parse_params({"train": {"class_weights": "none", **train}}).train


def run(folder: Path, **train: Any) -> tuple[Any, Any, ImageStore]:
    """Train the small CNN for some epochs on images that differ by their brightness: model, state, images."""
    seed_everything(0)
    params = parse_params(
        {
            "resize": {"size": 32},
            "model": {"head": {"units": 0, "dropout": 0.0, "feature_norm": False}},
            "train": {"epochs": 3, "batch": 6, "learning_rate": 0.003, **train},
        }
    )
    images = np.random.default_rng(0).normal(90 + 70 * TARGETS[:, None, None, None], 60, (30, 32, 32, 3))
    store = ImageStore.whole(np.clip(images, 0, 255).astype(np.uint8))
    model = build_model(params.model, 32, 2)
    state = fit(
        model, params, "binary", store, TARGETS, 24, title="test",
        state_file=folder / "state.npz", fingerprint="", live_dir=folder / "live",
    )  # fmt: skip
    return model, state, store


def step(train: Train, gradient: float, batches: int = 1) -> float:
    """Where a weight of 1 stands after equal gradients."""
    weight = keras.Variable(np.ones(1, np.float32), name="kernel")
    optimizer = make_optimizer(train, 0.1)
    optimizer.build([weight])
    for _ in range(batches):
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
    return float(weight.numpy()[0])


def test_tensorflow_traces_the_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced, step_of = [], keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda self, data: traced.append(1) or step_of(self, data))
    run(tmp_path, epochs=1)
    assert len(traced) == 1


def test_a_small_network_takes_steps_in_a_row_with_equal_weights_and_a_larger_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, _, _ = run(tmp_path / "light")
    monkeypatch.setattr("biopsy.training.light_steps.LIGHT", 1000)
    one_by_one, _, _ = run(tmp_path / "heavy")
    assert (together.steps_per_execution, one_by_one.steps_per_execution) == (4, 1)
    assert all(np.array_equal(*pair) for pair in zip(together.get_weights(), one_by_one.get_weights(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill_and_can_be_saved(name: str) -> None:
    train = train_section(optimizer=name)
    assert step(train, 0.3, batches=2) < 1
    config = keras.saving.serialize_keras_object(make_optimizer(train, 0.1))
    assert keras.saving.deserialize_keras_object(config).get_config() == make_optimizer(train, 0.1).get_config() | {
        "name": config["config"]["name"]
    }


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"adam"}))
def test_weight_decay_pulls_the_weights_and_leaves_biases_and_norms_alone(name: str) -> None:
    optimizer = make_optimizer(train_section(optimizer=name, weight_decay=0.5), 0.1)
    weights = [keras.Variable(np.ones(1, np.float32), name=n) for n in ("kernel", "bias", "gamma", "beta")]
    optimizer.build(weights)
    steps = 2 if name == "adopt" else 1  # its first step only measures
    for _ in range(steps):
        optimizer.apply([keras.ops.zeros(1)] * 4, weights)
    np.testing.assert_allclose([w.numpy()[0] for w in weights], [0.95, 1, 1, 1], rtol=1e-6)


def test_the_norm_of_the_gradient_is_clipped() -> None:
    assert step(train_section(optimizer="sgd", clip_norm=2.0), 50.0) == pytest.approx(1 - 0.1 * 2)
    assert step(train_section(optimizer="sgd"), 5.0) == pytest.approx(1 - 0.1 * 5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_average_is_one_of_steps_not_of_batches(accumulate: int) -> None:
    optimizer = make_optimizer(train_section(optimizer="sgd", ema=0.9, accumulate=accumulate), 0.1)
    weight = keras.Variable(np.zeros(1, np.float32), name="kernel")
    optimizer.build([weight])
    expected, values = None, []
    for _ in range(4):
        for _ in range(accumulate):
            optimizer.apply([keras.ops.ones(1)], [weight])
        values.append(float(weight.numpy()[0]))
    for _ in range(accumulate - 1):  # the batches that show the average the last step for as long as the others
        optimizer.apply([keras.ops.zeros(1)], [weight])
    for value in values:
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    assert float(optimizer._model_variables_moving_average[0].numpy()[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("accumulate", "momentum_steps"),
    [(1, [1, 1, 1] * 2), (2, [1, 1] * 2), (3, [1] * 2), (5, [1] * 2)],
)
def test_each_epoch_ends_with_a_step_of_the_gradients_that_are_left(accumulate: int, momentum_steps: list[int]) -> None:
    """Three batches an epoch, all of gradient 1: every step is of a mean gradient of 1, and none is lost."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    train = train_section(optimizer="sgd", accumulate=accumulate)
    model.compile(make_optimizer(train, 0.1, 3), lambda y, p: p[:, 0])
    last = [LastStep(3)] if accumulate > 1 else []
    model.fit(np.ones((3, 1)), np.ones((3, 1)), batch_size=1, epochs=2, callbacks=last, verbose=0)
    expected, velocity = 1.0, 0.0
    for gradient in momentum_steps:
        velocity = 0.9 * velocity - 0.1 * gradient
        expected += velocity
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(expected, rel=1e-5)


def test_more_batches_to_a_step_than_the_training_has_are_rejected_before_it(tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match=r"train\.accumulate is 13, and the whole training has 12 batches .3 epochs of 4"
    ):
        run(tmp_path, accumulate=13)
    assert not (tmp_path / "state.npz").exists()


def test_class_weights_follow_what_is_trained_on_or_the_originals_or_are_none() -> None:
    targets = np.array([0, 0, 1, 1, 1, 1])
    doubled = training_items(targets, Augment(double_minority=True, copies={"binary": {"flip": True}}), "binary")
    plain = training_items(targets, Augment(), "binary")
    found = {
        name: class_weights(doubled, train_section(class_weights=name)) for name in ("balanced", "original", "none")
    }
    assert found == {"balanced": {0: 1.0, 1: 1.0}, "original": {0: 1.5, 1: 0.75}, "none": None}
    assert class_weights(plain, train_section(class_weights="balanced")) == {0: 1.5, 1: 0.75}


@pytest.mark.parametrize(("momentum", "warned"), [(0.9999, True), (0.99, True), (0.95, False)])
def test_an_average_that_is_mostly_the_first_step_is_told(
    momentum: float, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    check_average(32, 2, momentum)
    told = f"train.ema is {momentum:g}, and the training has 64 batches (2 epochs of 32): {momentum**63:.0%} of"
    assert (told in capsys.readouterr().err) is warned


@pytest.mark.parametrize(("copies", "warned"), [({"binary": {}}, False), ({"multiclass": {}}, True)])
def test_a_task_whose_copies_nothing_changes_is_told_that_none_is_doubled(
    copies: dict[str, Any], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    check_copies(Augment(double_minority=True, copies=copies), "binary")
    assert ("augment.copies has no 'binary'" in capsys.readouterr().err) is warned


def test_the_class_weights_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, *args, **kwargs: given.append(kwargs["class_weight"]))
    run(tmp_path, class_weights="balanced")
    run(tmp_path, class_weights="none")
    assert given == [{0: 1.0, 1: 1.0}, None]


@pytest.mark.parametrize(
    ("losses", "epochs", "improving"),
    [
        ([2.0, 1.5, 1.2, 1.0, 0.8], 5, True),
        ([2.0, 1.5, 1.2, 1.0, 0.8], 9, False),  # stopped early
        ([2.0, 1.0, 0.9, 0.9, 0.88], 5, False),
        ([0.5, 0.1, 0.02, 0.02, 0.01], 5, False),  # half of nearly nothing
        ([2.0, 1.0, 0.9, 1.0, 1.1], 5, False),
        ([2.0], 1, True),
    ],
)
def test_a_training_whose_epochs_ran_out_while_it_improved_is_known(
    losses: list[float], epochs: int, improving: bool
) -> None:
    assert still_improving(losses, epochs, classes=2) == improving


def test_what_is_validated_kept_and_left_in_the_model_is_the_average(tmp_path: Path) -> None:
    """The validation loss that the history tells is the one of the weights that come out."""
    model, state, store = run(tmp_path, ema=0.8, early_stopping_patience=None)
    p = model.predict(store.array[24:].astype(np.float32), verbose=0)[:, 0]
    losses = [epoch["val_loss"] for epoch in state.history]
    assert np.mean(-np.log(np.where(TARGETS[24:] == 1, p, 1 - p))) == pytest.approx(min(losses), rel=1e-4)
    raw, plain, _ = run(tmp_path / "raw", early_stopping_patience=None)
    assert [e["loss"] for e in plain.history] == [e["loss"] for e in state.history]  # it trains as without an average
    assert [e["val_loss"] for e in plain.history] != losses
    assert not np.array_equal(raw.get_weights()[0], model.get_weights()[0])


def test_the_swap_of_the_average_loses_no_bit() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(make_optimizer(train_section(ema=0.9), 0.1), "mse", run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    for _ in range(3):
        model.train_on_batch(x, x[:, :2])
    average = AveragedWeights()
    average.set_model(model)
    before = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
    average.on_test_begin()
    assert not np.array_equal(model.get_weights()[0], before[0])
    average.on_test_begin()  # a second validation of one epoch changes nothing
    average.on_epoch_begin(1)
    after = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
    assert all(map(np.array_equal, before, after))


def rate_at(schedule: Any, batch: int) -> float:
    return float(schedule(batch))


def test_the_cosine_falls_from_the_rate_to_the_least_over_all_epochs() -> None:
    train = train_section(learning_rate=0.1, schedule={"name": "cosine", "min_lr": 0.01})
    schedule = learning_rate(train, epochs=10, steps=8)
    for batch in (0, 1, 40, 79, 80, 1000):
        share = min(1, batch / 80)
        expected = 0.01 + (0.1 - 0.01) * 0.5 * (1 + math.cos(math.pi * share))
        assert rate_at(schedule, batch) == pytest.approx(expected, rel=1e-5)


def test_the_warm_up_grows_linearly_and_the_cosine_follows() -> None:
    train = train_section(learning_rate=0.1, schedule={"name": "cosine", "min_lr": 0.0, "warmup_epochs": 2})
    schedule = learning_rate(train, epochs=10, steps=8)
    rates = np.array([rate_at(schedule, batch) for batch in range(81)])
    assert rates[0] == pytest.approx(0.1 / 16)
    np.testing.assert_allclose(np.diff(rates[:17]), (0.1 - 0.1 / 16) / 16, rtol=1e-4)
    assert rates[16] == rates.max() == pytest.approx(0.1)
    assert rates[16 + 32] == pytest.approx(0.05, rel=1e-4)
    assert rates[80] == pytest.approx(0, abs=1e-8)


def test_a_training_with_everything_on_follows_its_cosine_stops_early_and_tells_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOPSY_PROGRESS", str(tmp_path / "epochs"))
    everything = {
        "optimizer": "adopt", "weight_decay": 0.01, "clip_norm": 1.0, "ema": 0.9, "accumulate": 2,
        "loss": {"name": "focal", "label_smoothing": 0.1}, "schedule": {"name": "cosine", "warmup_epochs": 1},
        "epochs": 12, "early_stopping_patience": 1, "class_weights": "none",
    }  # fmt: skip
    _, state, _ = run(tmp_path, **{**everything, "learning_rate": 3.0})
    rates = [epoch["learning_rate"] for epoch in state.history]
    assert rates[0] < rates[1] > rates[2]
    best = int(np.argmin([epoch["val_loss"] for epoch in state.history])) + 1
    assert len(rates) == best + 1 < 12  # the patience
    assert [json.loads(line) for line in (tmp_path / "epochs").read_text().splitlines()] == state.history


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"optimizer": "adam", "weight_decay": 0.1}, ["train.weight_decay", "0.1", "adamw"]),
        ({"schedule": {"min_lr": 1e-4}}, ["train.schedule.min_lr", "below train.learning_rate", "0.0001"]),
        ({"schedule": {"name": "cosine", "min_lr": 0.1}}, ["train.schedule.min_lr", "0.1"]),
        ({"schedule": {"warmup_epochs": 3}}, ["train.schedule.warmup_epochs", "'plateau'", "cosine"]),
        ({"schedule": {"name": "constant", "warmup_epochs": 3}}, ["train.schedule.warmup_epochs", "'constant'"]),
        (
            {"schedule": {"name": "cosine", "warmup_epochs": 51}},
            ["train.schedule.warmup_epochs", "at most train.epochs", "50", "51"],
        ),
        ({"loss": {"name": "class_balanced"}}, ["train.loss.name", "train.class_weights", "none"]),
        ({"loss": {"name": "logit_adjusted"}}, ["train.loss.name", "train.class_weights", "none"]),
        ({"ema": 1.0}, ["train.ema", "less than 1"]),
        ({"clip_norm": 0.0}, ["train.clip_norm", "greater than 0"]),
        ({"loss": {"label_smoothing": 1.0}}, ["train.loss.label_smoothing", "less than 1"]),
    ],
)
def test_parameters_that_contradict_each_other_are_one_sentence(train: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ParamsError) as error:
        parse_params({"train": train})
    for word in words:
        assert word in str(error.value)


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(ParamsError, match="Did you mean 'adopt'"):
        make_optimizer(train_section(optimizer="adpt"), 0.1)
    with pytest.raises(ParamsError, match="Did you mean 'logit_adjusted'"):
        find_loss("logit_adjustment")


@pytest.mark.parametrize("monitor", ["val_auc", "none"])
def test_the_model_is_that_of_the_epoch_that_the_monitor_finds_best(monitor: str, tmp_path: Path) -> None:
    """Also where a finished training is taken up again."""
    model, state, store = run(tmp_path, monitor=monitor, epochs=3, learning_rate=0.03)
    answers = model.predict(store.array[24:].astype(np.float32), verbose=0)
    kept = state.history[best_epoch(state.history, monitor)]
    if monitor == "none":
        right = answers[np.arange(6), 0] * TARGETS[24:] + (1 - answers[np.arange(6), 0]) * (1 - TARGETS[24:])
        assert kept == state.history[-1]
        assert kept["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-3)
    else:
        assert kept[monitor] == max(figures[monitor] for figures in state.history)
        assert score(monitor, TARGETS[24:], answers) == pytest.approx(kept[monitor])
    again, taken_up, _ = run(tmp_path, monitor=monitor, epochs=3, learning_rate=0.03)
    assert taken_up.history == state.history
    assert all(map(np.array_equal, model.get_weights(), again.get_weights()))


@pytest.mark.parametrize(
    ("monitor", "figures_of_epochs", "stops_after"),
    [
        ("val_loss", [0.5, 0.4, 0.6, 0.7, 0.1], 4),
        ("val_auc", [0.5, 0.6, 0.4, 0.6, 0.9], 4),
        ("val_macro_f1", [0.5, 0.6, 0.7, 0.8, 0.9], None),
        ("none", [0.5, 0.9, 0.9, 0.9, 0.9], None),
    ],
)
def test_patience_counts_epochs_in_which_the_monitor_gets_no_better(
    monitor: str, figures_of_epochs: list[float], stops_after: int | None
) -> None:
    early = early_stopping(monitor, 2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.stop_training = False
    early.set_model(model)
    early.on_train_begin()
    for epoch, figure in enumerate(figures_of_epochs):
        early.on_epoch_end(epoch, {monitor: figure})
        if model.stop_training:
            break
    assert (epoch + 1 if model.stop_training else None) == stops_after


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("name", "figure"), [("val_macro_f1", "macro_f1"), ("val_auc", "roc_auc")])
def test_a_score_is_the_figure_that_evaluate_gives(classes: int, name: str, figure: str) -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, max(2, classes - 1), 40)  # of four classes the last is not validated
    answers = random.dirichlet(np.ones(classes), 40)
    expected = figures(make_outcome(targets, answers, [str(c) for c in range(classes)]))[figure]
    assert score(name, targets, answers[:, 1:] if classes == 2 else answers) == pytest.approx(expected)


def test_a_validation_part_of_one_class_is_followed_by_its_loss(capsys: pytest.CaptureFixture[str]) -> None:
    for monitor in ("val_auc", "val_macro_f1"):
        assert defined(monitor, np.array([1, 1, 1]), "binary-case, fold 1-2") == "val_loss"
        printed = capsys.readouterr().err
        assert printed.startswith(f"warning: binary-case, fold 1-2: train.monitor is {monitor}, and validation holds")
        assert printed.count("\n") == 1
    assert defined("val_auc", np.array([0, 1]), "x") == "val_auc"
    assert best_epoch([{"val_loss": 0.4}, {"val_loss": 0.3}, {"val_loss": 0.5}], "val_auc") == 1
    assert capsys.readouterr().err == ""
