"""The losses by name: what `train.loss.name` may say.

All take probabilities, as the models give them: (n, 1) from a sigmoid, or (n, k) from a softmax, with targets of the
same shape. Two classes in one column are the case k = 2. Targets may be soft, as after MixUp. With label smoothing e a
target y becomes (1 - e) y + e / k.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from biopsy.core.registry import Registry
from biopsy.core.sections.train import Loss
from biopsy.networks.backend import keras

ops = keras.ops
SINGLE = 2.0**-24  # the smallest distance of a float32 from 1
TINY = 1e-30  # far inside float32: smaller probabilities come from logits that lie 69 apart
LossFunction = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class LossEntry:
    """One entry of the registry.

    Attributes
    ----------
    name
        What `train.loss.name` says.
    make
        `(section, counts) -> loss`: the section `train.loss` and the training images of each class, (k,), to a
        function from targets and probabilities to one loss an image, (n,).
    description
        One sentence with its source.
    """

    name: str
    make: Callable[[Loss, np.ndarray], LossFunction]
    description: str


LOSSES = Registry[LossEntry]("loss", "train.loss.name")
register, find = LOSSES.add, LOSSES.find


def make_loss(loss: Loss, targets: np.ndarray, classes: int) -> LossFunction:
    """Make the loss that the section `train.loss` names.

    Parameters
    ----------
    loss
        The section.
    targets
        (n,) int: the class of each training image, copies included, as the network will see them.
    classes
        2 or more.
    """
    return find(loss.name).make(loss, np.bincount(targets, minlength=classes))


PLAIN = "cross_entropy"


def plain_loss() -> Any:
    """Return the metric that validation is judged by, whatever the training minimises: the plain cross-entropy."""
    return keras.metrics.MeanMetricWrapper(cross_entropy(Loss(), np.array([])), name=PLAIN)


class PlainValidationLoss(keras.callbacks.Callback):
    """Replace `val_loss` by the metric `plain_loss`, which can be compared between losses.

    Keras computes `val_loss` with the loss of the training: with a weighted one, a single image of a rare class can
    decide when to stop; with smoothing or a penalty its least value is not 0. Must come before the callbacks that read
    `val_loss`.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Change the figures that the callbacks after this one get."""
        if logs is not None:
            logs.pop(PLAIN, None)
            logs["val_loss"] = logs.pop(f"val_{PLAIN}")


def effective_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """Weigh classes by the inverse of their effective number of images, (1 - beta^n) / (1 - beta).

    Parameters
    ----------
    counts
        (k,) images of each class.
    beta
        In [0, 1): 0 weighs all alike, towards 1 it comes to the inverse of the count.

    Returns
    -------
    numpy.ndarray
        (k,) float, with mean 1 over the classes that have images (Cui et al., 2019, section 4); a class without any
        weighs 1.
    """
    weights, present = np.ones(len(counts)), counts > 0
    inverse = (1 - beta) / (1 - beta ** counts[present].astype(float))
    weights[present] = inverse / inverse.mean()
    return weights


def log_priors(counts: np.ndarray) -> np.ndarray:
    """Return the logarithm of each class's share, (k,); a class without images counts as if it had one."""
    floored = np.maximum(counts, 1)
    return np.log(floored / floored.sum())


def _columns(targets: Any) -> Any:
    """Give two classes in one column (n, 1) their two columns; leave (n, k) as it is."""
    return ops.concatenate([1 - targets, targets], -1) if targets.shape[-1] == 1 else targets


def _log(probabilities: Any) -> Any:
    """Return log-probabilities (n, k), finite with finite gradients for any probability from 0 to 1."""
    if probabilities.shape[-1] > 1:
        return ops.log(ops.maximum(probabilities, TINY))
    one = ops.maximum(probabilities, TINY)
    other = ops.minimum(probabilities, 1 - SINGLE)
    return ops.concatenate([ops.log1p(-other), ops.log(one)], -1)


def _smooth(targets: Any, smoothing: float) -> Any:
    """Move a share of each target (n, k) evenly to all classes."""
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def cross_entropy(loss: Loss, counts: np.ndarray) -> LossFunction:
    """-sum_c y_c log p_c, by Keras, which goes back to the logits where it can."""

    def function(targets: Any, probabilities: Any) -> Any:
        one = probabilities.shape[-1] == 1
        keras_loss = keras.losses.binary_crossentropy if one else keras.losses.categorical_crossentropy
        return keras_loss(targets, probabilities, label_smoothing=loss.label_smoothing)

    return function


def focal(loss: Loss, counts: np.ndarray) -> LossFunction:
    """-sum_c y_c (1 - p_c)^gamma log p_c: images that are classified well count less."""

    def function(targets: Any, probabilities: Any) -> Any:
        log_p = _log(probabilities)
        missing = ops.maximum(-ops.expm1(log_p), SINGLE)  # a power of 0 has no finite gradient
        y = _smooth(_columns(targets), loss.label_smoothing)
        return -ops.sum(y * ops.power(missing, loss.gamma) * log_p, -1)

    return function


def class_balanced(loss: Loss, counts: np.ndarray) -> LossFunction:
    """Cross-entropy, each image weighed by its class: see `effective_weights`."""
    weights = effective_weights(counts, loss.beta).astype(np.float32)
    plain = cross_entropy(loss, counts)

    def function(targets: Any, probabilities: Any) -> Any:
        return ops.sum(_columns(targets) * weights, -1) * plain(targets, probabilities)

    return function


def logit_adjusted(loss: Loss, counts: np.ndarray) -> LossFunction:
    """Cross-entropy of softmax(logits + tau log priors): the network learns to do without the priors."""
    shift = (loss.tau * log_priors(counts)).astype(np.float32)

    def function(targets: Any, probabilities: Any) -> Any:
        y = _smooth(_columns(targets), loss.label_smoothing)
        return -ops.sum(y * ops.log_softmax(_log(probabilities) + shift), -1)

    return function


register(LossEntry("cross_entropy", cross_entropy, "The logarithm of the probability of the truth."))
register(LossEntry("focal", focal, "Hard images count more (Lin et al., 2017, arXiv 1708.02002, without its alpha)."))
register(
    LossEntry(
        "class_balanced",
        class_balanced,
        "Rare classes count more, by their effective number of images (Cui et al., 2019, arXiv 1901.05555).",
    )
)
register(
    LossEntry(
        "logit_adjusted",
        logit_adjusted,
        "Rare classes get a margin, by their share of the training part (Menon et al., 2021, arXiv 2007.07314).",
    )
)
