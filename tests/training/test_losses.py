"""The losses against numbers from a hand calculator, for a sigmoid and for a softmax."""

from math import exp, log
from typing import Any

import numpy as np
import pytest

from biopsy.core.errors import ParamsError
from biopsy.core.params import parse_params
from biopsy.core.sections.train import Loss
from biopsy.networks.backend import keras, tf
from biopsy.training.fit import compile_model
from biopsy.training.inputs.loader import encode_targets
from biopsy.training.losses import LOSSES, PlainValidationLoss, effective_weights, log_priors, make_loss

TARGETS = np.array([0, 0, 0, 1, 1, 2])  # training images: 3, 2 and 1 of each class


def of_softmax(name: str, p: list[float], truth: int, **settings: Any) -> float:
    """The loss of one image of three classes, `p` its probabilities."""
    function = make_loss(Loss(name=name, **settings), TARGETS, 3)
    return float(function(np.eye(3, dtype=np.float32)[[truth]], np.array([p], np.float32))[0])


def of_sigmoid(name: str, p: float, truth: int, **settings: Any) -> float:
    """The loss of one image of two classes, 3 and 2 of which were trained on; `p` is the probability of the second."""
    function = make_loss(Loss(name=name, **settings), TARGETS[:5], 2)
    return float(function(np.array([[truth]], np.float32), np.array([[p]], np.float32))[0])


P = [0.7, 0.2, 0.1]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (of_softmax("cross_entropy", P, 1), -log(0.2)),
        (of_softmax("cross_entropy", P, 1, label_smoothing=0.3), -(0.1 * log(0.7) + 0.8 * log(0.2) + 0.1 * log(0.1))),
        (of_softmax("focal", P, 1, gamma=2.0), -(0.8**2) * log(0.2)),
        (of_softmax("focal", P, 0, gamma=0.5), -(0.3**0.5) * log(0.7)),
        (
            of_softmax("focal", P, 1, gamma=2.0, label_smoothing=0.3),
            -(0.1 * 0.09 * log(0.7) + 0.8 * 0.64 * log(0.2) + 0.1 * 0.81 * log(0.1)),
        ),
        # beta 0.5: effective numbers 1.75, 1.5 and 1; inverses 4/7, 2/3 and 1, whose mean is 47/63
        (of_softmax("class_balanced", P, 1, beta=0.5), -(2 / 3) / (47 / 63) * log(0.2)),
        (of_softmax("class_balanced", P, 2, beta=0.5), -(63 / 47) * log(0.1)),
        # tau 1: the probabilities times 1/2, 1/3, 1/6, and scaled: 21/26, 4/26, 1/26
        (of_softmax("logit_adjusted", P, 1, tau=1.0), -log(4 / 26)),
        (of_softmax("logit_adjusted", P, 2, tau=1.0), log(26)),
        (
            of_softmax("logit_adjusted", P, 1, tau=1.0, label_smoothing=0.3),
            -0.1 * log(21 / 26) - 0.8 * log(4 / 26) + 0.1 * log(26),
        ),
        (of_softmax("logit_adjusted", P, 2, tau=0.0), -log(0.1)),
        (of_sigmoid("cross_entropy", 0.8, 0), -log(0.2)),
        (of_sigmoid("cross_entropy", 0.8, 1, label_smoothing=0.2), -(0.9 * log(0.8) + 0.1 * log(0.2))),
        (of_sigmoid("focal", 0.8, 1, gamma=2.0), -(0.2**2) * log(0.8)),
        (of_sigmoid("focal", 0.8, 0, gamma=2.0), -(0.8**2) * log(0.2)),
        # beta 0.5: effective numbers 1.75 and 1.5; the weights 14/15 and 16/15 after division by the mean, 13/21
        (of_sigmoid("class_balanced", 0.8, 0, beta=0.5), -(4 / 7) / (13 / 21) * log(0.2)),
        (of_sigmoid("class_balanced", 0.8, 1, beta=0.5), -(2 / 3) / (13 / 21) * log(0.8)),
        # tau 1: 0.2 x 0.6 against 0.8 x 0.4; tau 2: 0.2 x 0.36 against 0.8 x 0.16
        (of_sigmoid("logit_adjusted", 0.8, 1, tau=1.0), -log(0.32 / 0.44)),
        (of_sigmoid("logit_adjusted", 0.8, 0, tau=2.0), -log(0.072 / 0.2)),
    ],
)  # fmt: skip
def test_a_loss_is_what_a_hand_calculator_says(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_loss_has_finite_values_and_gradients_for_any_logit(name: str, classes: int) -> None:
    """Even for probabilities that round to 0 and 1, and any exponent."""
    logits = tf.constant([[0.0], [50.0], [-50.0], [200.0]] if classes == 2 else np.diag([50.0, -50, 200]), tf.float32)
    y = np.array([[1], [0], [1], [0]] if classes == 2 else np.eye(3)[[0, 0, 1]], np.float32)
    for gamma in (0.0, 0.5, 2.0):
        function = make_loss(Loss(name=name, gamma=gamma, label_smoothing=0.1), TARGETS[: classes + 3], classes)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            p = tf.sigmoid(logits) if classes == 2 else tf.nn.softmax(logits)
            values = function(y, p)
        assert values.shape == (len(y),)
        assert np.isfinite(values).all()
        assert np.isfinite(tape.gradient(values, logits)).all()


@pytest.mark.parametrize("name", ["focal", "logit_adjusted"])
def test_a_confident_mistake_of_a_softmax_still_has_its_gradient(name: str) -> None:
    """d loss / d logit of the truth is -1 however wrong the network is, as with Keras's loss on logits."""
    logits = tf.constant([[0.0, 40.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = make_loss(Loss(name=name), TARGETS, 3)(np.eye(3, dtype=np.float32)[[0]], tf.nn.softmax(logits))
    np.testing.assert_allclose(tape.gradient(loss, logits), [[-1, 1, 0]], atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_mixed_targets_give_mixed_losses(name: str) -> None:
    """What MixUp needs: a target of 0.3 and 0.7 is 0.3 of one loss and 0.7 of the other."""
    one, two = np.eye(3, dtype=np.float32)[[[0], [2]]]
    p = np.array([P], np.float32)
    function = make_loss(Loss(name=name), TARGETS, 3)
    mixed = function(0.3 * one + 0.7 * two, p)
    if name == "class_balanced":  # there the weight is mixed, too
        mixed = mixed / (0.3 * effective_weights(np.array([3, 2, 1]), 0.999)[0] + 0.7 * _weight_of_third())
        np.testing.assert_allclose(mixed, [-0.3 * log(0.7) - 0.7 * log(0.1)], rtol=1e-5)
    else:
        np.testing.assert_allclose(mixed, 0.3 * function(one, p) + 0.7 * function(two, p), rtol=1e-5)


def _weight_of_third() -> float:
    return float(effective_weights(np.array([3, 2, 1]), 0.999)[2])


def test_effective_weights_go_from_even_to_the_inverse_of_the_count() -> None:
    counts = np.array([100, 10, 0, 1])
    np.testing.assert_allclose(effective_weights(counts, 0.0), 1)
    inverse = np.array([0.01, 0.1, 1])
    np.testing.assert_allclose(effective_weights(counts, 0.9999999)[[0, 1, 3]], inverse / inverse.mean(), rtol=1e-4)
    assert effective_weights(counts, 0.9999999)[2] == 1


def test_a_class_without_training_images_leaves_the_prior_finite() -> None:
    np.testing.assert_allclose(np.exp(log_priors(np.array([3, 0]))), [0.75, 0.25])


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_both_heads(name: str) -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 3):
        targets = rng.integers(0, classes, 60)
        x = (np.eye(classes)[targets] + rng.normal(0, 0.1, (60, classes))).astype(np.float32)
        y = (targets[:, None] if classes == 2 else np.eye(classes)[targets]).astype(np.float32)
        units, activation = (1, "sigmoid") if classes == 2 else (3, "softmax")
        model = keras.Sequential([keras.Input((classes,)), keras.layers.Dense(units, activation)])
        loss = make_loss(Loss(name=name), targets, classes)
        model.compile(keras.optimizers.Adam(0.3), loss, metrics=["accuracy"], run_eagerly=True)
        first = model.train_on_batch(x, y, return_dict=True)["loss"]
        for _ in range(25):
            model.train_on_batch(x, y)
        found = model.test_on_batch(x, y, return_dict=True)
        assert found["loss"] < first
        assert (np.round(model.predict_on_batch(x)) == y).mean() > 0.9


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"train\.loss\.name.*focall.*Did you mean 'focal'"):
        make_loss(Loss(name="focall"), TARGETS, 3)


def test_the_adjusted_network_forgets_the_priors() -> None:
    """Two classes that nothing tells apart, 9 to 1: cross-entropy learns 0.1, logit adjustment 0.5."""
    targets = np.array([0] * 9 + [1])
    y, x = targets[:, None].astype(np.float32), np.zeros((10, 1), np.float32)
    ends = {}
    for name in ("cross_entropy", "logit_adjusted"):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid")])
        model.compile(keras.optimizers.Adam(0.1), make_loss(Loss(name=name), targets, 2), run_eagerly=True)
        for _ in range(120):
            model.train_on_batch(x, y)
        ends[name] = float(model.predict_on_batch(x[:1])[0, 0])
    assert ends["cross_entropy"] == pytest.approx(0.1, abs=0.01)
    assert ends["logit_adjusted"] == pytest.approx(0.5, abs=0.01)
    assert exp(log_priors(np.bincount(targets))[1]) == pytest.approx(0.1)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 3])
def test_validation_is_judged_by_the_plain_cross_entropy_whatever_is_minimised(name: str, classes: int) -> None:
    """Its callbacks, as early stopping, see it; weights, smoothing and penalties are the training's own."""
    rng = np.random.default_rng(0)
    targets = TARGETS[: classes + 3]
    x = rng.normal(size=(len(targets), 4)).astype(np.float32)
    y = encode_targets(targets, classes)
    units, activation = (1, "sigmoid") if classes == 2 else (3, "softmax")
    penalty = keras.regularizers.L2(0.1)
    given = keras.Input((4,))
    model = keras.Model(given, keras.layers.Dense(units, activation, kernel_regularizer=penalty)(given))
    section = parse_params(
        {"train": {"class_weights": "none", "loss": {"name": name, "label_smoothing": 0.2, "beta": 0.5}}}
    ).train
    compile_model(model, section, targets, epochs=1, steps=1)
    seen: list[dict[str, float]] = []
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[PlainValidationLoss(), after])
    p = model.predict_on_batch(x)
    p = np.hstack([1 - p, p]) if classes == 2 else p
    assert seen[0]["val_loss"] == pytest.approx(-np.log(p[np.arange(len(p)), targets]).mean(), rel=1e-4)
    assert set(seen[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
