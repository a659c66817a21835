"""Logistic regression on standardised features, as the weights of one dense layer.

scikit-learn does the fitting; it is imported there, since every training imports this module.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import ParamsError
from biopsy.core.sections.model import Probe

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

NEVER = -30.0  # the bias of a class without training images: exp(-30) of the others' weight
FLAT = 1e-6  # a feature of a smaller deviation says nothing
LEAST = 1e-2  # of the largest deviation: smaller ones count as this, else weights are so large that float32 rounds them

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]


def softmax(logits: Floats) -> Floats:
    """Return probabilities (n, classes) of logits (n, classes), or (n, 1), those of the second of two classes."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def standardise(features: NDArray[np.floating], weights: Floats, settings: Probe) -> tuple[Floats, Floats]:
    """Find (offset, matrix): (x - offset) @ matrix is standardised or whitened, and divided by the root of its width.

    Mean and deviation are weighted like the images. With more features than images, the matrix projects onto the
    directions that the images span: the regression there is the same, in a fraction of the time.
    """
    share = weights / weights.sum()
    offset = share @ features.astype(np.float64)
    deviation = np.sqrt(share @ (features - offset) ** 2)
    least = max(FLAT, LEAST * deviation.max())
    scale = np.where(deviation > FLAT, 1 / np.maximum(deviation, least), 0.0)
    if settings.pca is None:
        scale = scale / np.sqrt(len(scale))
        if len(scale) <= len(features):
            return offset, np.diag(scale)
        return offset, scale[:, None] * np.linalg.qr(((features - offset) * scale).T)[0]
    most = min(features.shape)
    if settings.pca > most:
        raise ParamsError(
            f"model.probe.pca is {settings.pca}, and {features.shape[0]} training images with {features.shape[1]} "
            f"features have at most {most} components. Set a smaller number, or null"
        )
    standard = (features - offset) * scale * np.sqrt(share)[:, None]
    _, sizes, axes = np.linalg.svd(standard, full_matrices=False)
    sizes, axes = sizes[: settings.pca], axes[: settings.pca]
    inverse = np.where(sizes > FLAT * sizes[0], 1 / np.maximum(sizes, FLAT * sizes[0]), 0.0)
    return offset, scale[:, None] * axes.T * inverse / np.sqrt(len(sizes))


def regress(features: Floats, targets: Ints, weights: Floats, c: float, steps: int) -> "LogisticRegression | None":
    """Fit scikit-learn's logistic regression; None where it did not converge."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, solver="lbfgs", max_iter=steps, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return model.fit(features, targets, sample_weight=weights)
        except ConvergenceWarning:
            return None


def all_classes(answer: "LogisticRegression", classes: int) -> tuple[Floats, Floats]:
    """Arrange what scikit-learn found for the classes it has seen as kernel and bias of all."""
    if classes == 2:
        return answer.coef_.T, answer.intercept_
    kernel, bias = np.zeros((answer.coef_.shape[1], classes)), np.full(classes, NEVER)
    coefficients, intercepts = answer.coef_, answer.intercept_
    if len(answer.classes_) == 2:  # scikit-learn has one row then, of the second class against the first
        coefficients, intercepts = (np.concatenate([np.zeros_like(a), a]) for a in (coefficients, intercepts))
    kernel[:, answer.classes_], bias[answer.classes_] = coefficients.T, intercepts
    return kernel, bias
