"""The temperature: one number that makes a model more or less sure, fitted on images that it has not learnt from.

Every probability p of a model becomes p^(1/T), scaled to sum to 1 (Guo et al., ICML 2017). With T above 1 the model is
less sure than before, below 1 surer; the class with the largest probability stays the same.
"""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from biopsy.core.record import Record

# To fit one number takes about ten independent units (Peduzzi et al., J Clin Epidemiol 49(12), 1996), and the images of
# one case are not independent.
FEWEST_CASES = 10
BOUNDS = (0.1, 10.0)  # temperatures that are tried
# The prior of the temperature: the standard deviation of its logarithm around 0, half to double. Without it, a
# temperature fitted on 10 cases makes the test log loss of a calibrated model worse by more than 0.05 in a third of
# simulated draws, with it in a tenth; models that are twice or four times too sure gain as much with it.
SPREAD = 0.7
F = TypeVar("F", bound=np.floating)
SMALLEST = 1e-12  # a probability of nothing has no logarithm


class Calibration(Record):
    """How a temperature was fitted.

    Attributes
    ----------
    images, cases
        In the part for the fit, without classes that the model has not learnt.
    part
        `val`; `folds`: all validation parts of a cross-validation, without the images that this fold tests;
        `train`: if validation is too small, also the training images, answered by the inner folds of a probe.
    log_loss_before, log_loss_after
        On that part, with equal weight for each case; None if nothing was fitted.
    reason
        Why nothing was fitted; None if it was.
    """

    images: int = Field(ge=0)
    cases: int = Field(ge=0)
    part: Literal["val", "train", "folds"] = "val"
    log_loss_before: float | None = None
    log_loss_after: float | None = None
    reason: str | None = None


def both_classes(given: NDArray[F]) -> NDArray[F]:
    """From (n, 1), the probability of the second of two classes, to (n, 2); (n, c) stays as it is."""
    return np.hstack([1 - given, given]) if given.shape[1] == 1 else given


def calibrate(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """Bring probabilities to a temperature; `calibrate(p, 1 / T)` undoes it.

    Parameters
    ----------
    probabilities
        (n, c), rows sum to 1; or (n, 1), those of the second of two classes.
    temperature
        Above 0; 1 changes nothing.

    Returns
    -------
    numpy.ndarray
        Of the same shape.
    """
    if temperature == 1:
        return probabilities
    wide = np.asarray(probabilities, np.float64)
    single, wide = wide.shape[1] == 1, both_classes(wide)
    logs = np.log(np.clip(wide, SMALLEST, None)) / temperature
    raised = np.exp(logs - logs.max(1, keepdims=True))
    scaled = raised / raised.sum(1, keepdims=True)
    return scaled[:, 1:] if single else scaled


def why_not(targets: NDArray[np.int_], cases: NDArray[np.generic]) -> str | None:
    """Say why a validation part is too small to fit a temperature; None if it is not."""
    n = len(np.unique(cases))
    if n < FEWEST_CASES:
        return f"too few validation cases: {n}, and a temperature needs {FEWEST_CASES}"
    if len(np.unique(targets)) < 2:
        return "the validation images are all of one class"
    return None


def fit_temperature(
    probabilities: NDArray[np.floating], targets: NDArray[np.int_], cases: NDArray[np.generic]
) -> tuple[float, Calibration]:
    """Find the temperature with the lowest log loss on the validation images, with equal weight for each case.

    The logarithm of the temperature has a normal prior around 0, so few cases change it less than many.

    Parameters
    ----------
    probabilities
        (n, c), or (n, 1) of the second of two classes, as the model gives them.
    targets
        (n,) int, index of a class.
    cases
        (n,) the case of each image.

    Returns
    -------
    float, Calibration
        Temperature 1 and the reason if there is nothing to fit on. A model that is right on all validation images
        keeps temperature 1: the fit would make it as sure as the bounds allow.
    """
    given = np.asarray(probabilities, np.float64)
    given = both_classes(given)
    names, place = np.unique(cases, return_inverse=True)
    reason = why_not(targets, cases)
    if not reason and not np.isfinite(given).all():
        reason = "the model gives probabilities that are not numbers"
    elif not reason and np.ptp(given, axis=0).max() < SMALLEST:
        reason = "the model gives every validation image the same probabilities"
    elif not reason and (given.argmax(1) == targets).all():
        reason = "every validation image is right, so none shows how sure the model may be"
    counts = Calibration(images=len(targets), cases=len(names), reason=reason)
    if reason:
        return 1.0, counts
    weights, rows = 1 / np.bincount(place)[place], np.arange(len(targets))

    def loss(temperature: float) -> float:
        own = calibrate(given, temperature)[rows, targets]
        return float(np.average(-np.log(np.clip(own, SMALLEST, None)), weights=weights))

    from scipy.optimize import minimize_scalar  # here: who only predicts needs no SciPy

    def cost(log: float) -> float:
        return loss(float(np.exp(log))) + log**2 / (2 * SPREAD**2 * len(names))

    found = minimize_scalar(cost, bounds=tuple(np.log(BOUNDS)), method="bounded")
    temperature = round(float(np.exp(found.x)), 3)
    losses = {"log_loss_before": round(loss(1.0), 6), "log_loss_after": round(loss(temperature), 6)}
    return temperature, counts.model_copy(update=losses)
