"""The probe: logistic regression on features, its strength chosen by folds of cases, as the weights of one dense layer.

scikit-learn does the fitting; it is imported there, since every training imports this module. Scaling and whitening are
folded into the layer; a layer before it subtracts the mean.
Duplicated images of a case change nothing where `weights` is 'case'.
"""

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.sections.model import Probe
from biopsy.core.sections.train import Train
from biopsy.core.text import count

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

FALLBACK = 100.0  # C, where there are too few cases to choose; its neighbours do as well on BreakHis
OF_STEPS = (
    "sampling",
    "optimizer",
    "weight_decay",
    "clip_norm",
    "ema",
    "accumulate",
    "loss",
    "schedule",
    "monitor",
)  # of `train`
NEVER = -30.0  # the bias of a class without training images: exp(-30) of the others' weight
FLAT = 1e-6  # a feature of a smaller deviation says nothing
LEAST = 1e-2  # of the largest deviation: smaller ones count as this, else weights are so large that float32 rounds them

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]


@dataclass(frozen=True)
class FittedProbe:
    """One dense layer on centred features, and how it was chosen.

    Attributes
    ----------
    centre
        (p,) float64, what is subtracted from the features: their weighted mean over the training images.
    kernel, bias
        (p, outputs) and (outputs,) float64; one output (sigmoid) for two classes, else one a class (softmax).
    C
        The inverse strength of the penalty.
    scores
        Macro-F1 of the pooled answers out of the inner folds, by C; empty where nothing was chosen.
    notes
        Sentences for the user.
    layers
        Those that it sees (`biopsy.training.probe_layers`).
    """

    centre: Floats
    kernel: Floats
    bias: Floats
    C: float
    scores: dict[float, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def probabilities(self, features: NDArray[np.floating]) -> Floats:
        """Answer: features (n, p) to (n, classes), rows that sum to 1."""
        logits = (np.asarray(features, np.float64) - self.centre) @ self.kernel + self.bias
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def without_effect(train: Train) -> list[str]:
    """Name what was changed in the section `train` for a training by steps, which a probe is not."""
    plain = Train()
    return [f"train.{key}" for key in OF_STEPS if getattr(train, key) != getattr(plain, key)]


@threadpool_limits.wrap(limits=1)  # matrices this small are ten times slower on two threads of a busy machine
def fit_probe(
    features: NDArray[np.floating],
    targets: Ints,
    cases: NDArray[np.generic],
    classes: int,
    settings: Probe,
    seed: int = 0,
) -> FittedProbe:
    """Choose C by folds of cases, and fit.

    Parameters
    ----------
    features
        (n, p), of training images alone.
    targets
        (n,) int, 0 to classes - 1.
    cases
        (n,) the case of each image, of any type that sorts.
    classes
        2, or more.
    settings
        The section `model.probe`.
    seed
        Of the folds.

    Returns
    -------
    FittedProbe
        Of equal scores the smaller C, the stronger penalty, is taken.

    Raises
    ------
    DataError
        The images are of one class, or a feature is not finite.
    ParamsError
        The solver did not converge, or there are fewer images or features than `pca` components.
    """
    if len(np.unique(targets)) < 2:
        raise DataError("the training part holds one class only. Choose another seed or protocol, or use more images.")
    if not np.isfinite(features).all():
        raise DataError("the backbone's features are not finite numbers. Check model.weights, or set train.precision.")
    grid, notes = sorted(set(settings.C)), list[str]()
    chosen, scores = grid[0], dict[float, float]()
    choice = len(grid) > 1 or settings.layers == "chosen"
    if choice and (few := too_few(targets, cases, settings.folds)):
        chosen = min(grid, key=lambda c: abs(np.log(c / FALLBACK)))
        notes.append(f"C is {chosen:g}, not chosen: {few}")
    elif choice:
        scores, lost = _inner_scores(features, targets, cases, settings, seed)
        notes += [f"C {c:g} is left out: no convergence in {settings.max_iter} steps" for c in lost]
        chosen = max(scores, key=lambda c: (round(scores[c], 9), -c), default=grid[0])
    weights = sample_weights(targets, cases, settings.weights)
    offset, scale = _standard(features, weights, settings)
    answer = _regress((features - offset) @ scale, targets, weights, chosen, settings.max_iter)
    if answer is None:
        raise ParamsError(
            f"model.probe.max_iter: the logistic regression with C {chosen:g} did not converge in {settings.max_iter} "
            "steps. Set a larger number, or smaller ones in model.probe.C"
        )
    kernel, bias = _all_classes(answer, classes)
    return FittedProbe(offset, scale @ kernel, bias, chosen, scores, tuple(notes))


def too_few(targets: Ints, cases: NDArray[np.generic], folds: int) -> str:
    """Say why cases cannot be divided into folds that each leave two classes to learn from; empty where they can."""
    n, counts = len(np.unique(cases)), [len(np.unique(cases[targets == c])) for c in np.unique(targets)]
    if n < folds:
        return f"{count(n, 'case')} in training {'is' if n == 1 else 'are'} fewer than model.probe.folds {folds}"
    return "" if sorted(counts)[-2] > 1 else "only one class has two cases or more"


def sample_weights(targets: Ints, cases: NDArray[np.generic], kind: str) -> Floats:
    """Weigh images so that every class weighs the same, and with 'case' so does every case of a class.

    Returns
    -------
    numpy.ndarray
        (n,), summing to the number of cases: what stands against the penalty is not the number of images.
    """
    weights = np.ones(len(targets))
    if kind == "case":
        weights = 1 / _images_of_case(targets, cases)
    for label in np.unique(targets):
        weights[targets == label] /= weights[targets == label].sum()
    return np.asarray(weights * len(np.unique(cases)) / weights.sum())


def _images_of_case(targets: Ints, cases: NDArray[np.generic]) -> Floats:
    """Count for each image those of its case and class; a case may hold images of two."""
    pairs = np.unique(cases, return_inverse=True)[1] * (targets.max() + 1) + targets
    _, where, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    return counts[where].astype(float)


def grouped_folds(targets: Ints, cases: NDArray[np.generic], folds: int, seed: int) -> Ints:
    """Put each case into the fold with the fewest cases of its class, then of all; rare classes come first.

    Returns
    -------
    numpy.ndarray
        (n,) int, 0 to folds - 1. No fold is empty where there are as many cases. The number of images of a case does
        not count.
    """
    rng = np.random.default_rng(seed)
    names, of_image = np.unique(cases, return_inverse=True)
    votes = np.zeros((len(names), targets.max() + 1))
    np.add.at(votes, (of_image, targets), 1)
    main = votes.argmax(axis=1)
    order = rng.permutation(len(names))
    order = order[np.lexsort((main[order], np.bincount(main)[main[order]]))]
    filled, found = np.zeros((folds, votes.shape[1]), int), np.zeros(len(names), int)
    for case in order:
        fold = min(range(folds), key=lambda f: (filled[f, main[case]], filled[f].sum()))
        filled[fold, main[case]] += 1
        found[case] = fold
    return found[of_image]


def _inner_scores(
    features: NDArray[np.floating], targets: Ints, cases: NDArray[np.generic], settings: Probe, seed: int
) -> tuple[dict[float, float], list[float]]:
    """Score each C on the pooled answers about left-out cases, and list those that did not converge."""
    from sklearn.metrics import f1_score

    grid, found = sorted(set(settings.C)), grouped_folds(targets, cases, settings.folds, seed)
    chosen = np.zeros((len(grid), len(targets)), int)
    lost: set[float] = set()
    for fold in range(settings.folds):
        inside, outside = found != fold, found == fold
        weights = sample_weights(targets[inside], cases[inside], settings.weights)
        offset, scale = _standard(features[inside], weights, settings)
        known, asked = (features[inside] - offset) @ scale, (features[outside] - offset) @ scale
        for row, c in enumerate(grid):
            answer = _regress(known, targets[inside], weights, c, settings.max_iter)
            if answer is None:
                lost.add(c)
            else:
                chosen[row, outside] = answer.predict(asked)
    counted = 1 / _images_of_case(targets, cases) if settings.weights == "case" else None
    scores = {
        c: float(f1_score(targets, chosen[row], average="macro", sample_weight=counted, zero_division=0))
        for row, c in enumerate(grid)
        if c not in lost
    }
    return scores, sorted(lost)


def _standard(features: NDArray[np.floating], weights: Floats, settings: Probe) -> tuple[Floats, Floats]:
    """Find (offset, matrix): (x - offset) @ matrix is standardised or whitened, and divided by the root of its width.

    Mean and deviation are weighted like the images. Of more features than images the matrix turns to the directions
    that the images span: the regression is the same there, in a fraction of the time.
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


def _regress(features: Floats, targets: Ints, weights: Floats, c: float, steps: int) -> "LogisticRegression | None":
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


def _all_classes(answer: "LogisticRegression", classes: int) -> tuple[Floats, Floats]:
    """Arrange what scikit-learn found for the classes it has seen as kernel and bias of all."""
    if classes == 2:
        return answer.coef_.T, answer.intercept_
    kernel, bias = np.zeros((answer.coef_.shape[1], classes)), np.full(classes, NEVER)
    coefficients, intercepts = answer.coef_, answer.intercept_
    if len(answer.classes_) == 2:  # scikit-learn has one row then, of the second class against the first
        coefficients, intercepts = (np.concatenate([np.zeros_like(a), a]) for a in (coefficients, intercepts))
    kernel[:, answer.classes_], bias[answer.classes_] = coefficients.T, intercepts
    return kernel, bias
