"""A training that has diverged is stopped, whether its numbers are infinite or only huge."""

import math

import pytest

from biopsy.core.errors import ParamsError
from biopsy.networks.backend import keras
from biopsy.training.divergence import check_losses, check_steps

GUESS = math.log(8)


def history(losses: list[float], val_losses: list[float] | None = None) -> list[dict[str, float]]:
    rows = zip(losses, val_losses or losses, strict=True)
    return [{"loss": loss, "val_loss": val_loss, "learning_rate": 0.5} for loss, val_loss in rows]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["loss", "val_loss"])
def test_a_figure_that_is_not_finite_stops_at_once(key: str, number: float) -> None:
    told = history([2.0, 1.0])
    told[-1][key] = number
    with pytest.raises(
        ParamsError, match=r"train\.learning_rate: with 0\.5 the loss of epoch 2 is not a finite number"
    ):
        check_losses(told, GUESS, finished=False)


@pytest.mark.parametrize("loss", [3e2, 1e5, 1e37])
def test_a_finite_loss_far_above_a_guess_stops_after_three_epochs_and_at_the_end(loss: float) -> None:
    check_losses(history([loss, loss]), GUESS, finished=False)
    for told, finished in (([2.0, loss, loss, loss], False), ([loss], True), ([2.0, loss], True)):
        with pytest.raises(ParamsError, match=r"train\.learning_rate: with 0\.5 the training diverged: its loss is"):
            check_losses(history(told), GUESS, finished)


@pytest.mark.parametrize("precision", ["mixed_float16", "float32"])
def test_a_training_of_float16_whose_every_step_overflowed_is_no_model(precision: str) -> None:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    optimizer.apply([keras.ops.array(math.inf)])
    if precision == "float32":
        check_steps(optimizer)
        return
    with pytest.raises(ParamsError, match=r"train\.precision: in mixed_float16 the gradients of all steps overflowed"):
        check_steps(optimizer)
    optimizer.apply([keras.ops.array(1.0)])
    check_steps(optimizer)


def test_a_training_whose_best_epoch_is_far_worse_than_a_guess_is_not_saved() -> None:
    told = history([1.0, 0.5, 0.2], [1e6, 1e4, 1e5])
    check_losses(told, GUESS, finished=False)
    with pytest.raises(ParamsError, match=r"lowest validation loss is 1e\+04 after epoch 3, and guessing costs 2\.08"):
        check_losses(told, GUESS, finished=True)


@pytest.mark.parametrize(
    ("losses", "val_losses"),
    [
        ([1e6, 2.0, 1.0], [1e6, 2.0, 1.0]),  # a wild first step
        ([1.0, 1e6, 0.8], [1.0, 1e6, 0.8]),  # one bad batch
        ([2.0, 1.5, 1.0], [1e4, 800.0, 1.1]),  # batch norms that have not seen enough batches
        ([2.3, 2.2, 2.2], [2.4, 2.5, 2.9]),  # learns nothing, which is no divergence
        ([150.0, 140.0, 130.0], [2.0, 2.0, 2.0]),  # mostly penalty
    ],
)
def test_a_slow_start_one_bad_epoch_and_overfitting_go_on(losses: list[float], val_losses: list[float]) -> None:
    for epochs in range(1, 4):
        check_losses(history(losses[:epochs], val_losses[:epochs]), GUESS, finished=epochs == 3)
