"""The temperature of models that have just been trained, fitted on what they answer about images not learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from biopsy.core.job import Job
from biopsy.networks.answers import answer_images, images_at_once
from biopsy.networks.model_file import read_card, write_card
from biopsy.networks.temperature import Calibration, fit_temperature
from biopsy.training.inputs.loader import ImageStore

PARTS = {"val": "validation", "train": "validation and the inner folds", "folds": "all folds' validation"}


@dataclass(frozen=True, eq=False)
class Unseen:
    """Images that a model had not learnt from, of classes that it had learnt, and what it answered at temperature 1.

    A class that was not learnt gets hardly any probability. That says nothing about how sure the model may be of the
    others, and one such image would outweigh all of them.

    Attributes
    ----------
    ids, cases
        (n,) str, of each image.
    targets
        (n,) int, its class.
    given
        (n, classes) float64; NaN where the model was not asked.
    """

    ids: NDArray[np.str_]
    cases: NDArray[np.str_]
    targets: NDArray[np.int_]
    given: NDArray[np.float64]

    def without(self, ids: frozenset[str]) -> Self:
        """Leave images out."""
        kept = ~np.isin(self.ids, np.array(sorted(ids), str))
        return replace(
            self, ids=self.ids[kept], cases=self.cases[kept], targets=self.targets[kept], given=self.given[kept]
        )

    def answered(self) -> Self:
        """Leave out the images that no model was asked about."""
        return self.without(frozenset(self.ids[np.isnan(self.given).any(axis=1)].tolist()))

    def joined(self, *others: "Unseen") -> "Unseen":
        """Return these images and those of others."""
        every = (self, *others)
        return Unseen(
            np.concatenate([one.ids for one in every]), np.concatenate([one.cases for one in every]),
            np.concatenate([one.targets for one in every]), np.concatenate([one.given for one in every]),
        )  # fmt: skip

    def fit(self) -> tuple[float, Calibration]:
        """Fit a temperature."""
        return fit_temperature(self.given, self.targets, self.cases)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The images on which the temperature of one model can be fitted.

    Attributes
    ----------
    val
        Its validation images.
    inner
        Its training images, each answered by the probe of the inner fold that held it out; None without inner folds.
    tested
        The images of its test part, which may decide nothing.
    """

    val: Unseen
    inner: Unseen | None
    tested: frozenset[str]


def calibrate_models(jobs: Sequence[Job], evidence: Sequence[Evidence]) -> None:
    """Fit the temperature of each model, and write it into its card.

    Parameters
    ----------
    jobs
        A model, or those of all folds of a cross-validation.
    evidence
        Of each.
    """
    for job, own in zip(jobs, evidence, strict=True):
        others = [
            one.val for other, one in zip(jobs, evidence, strict=True)
            if other != job and job.fold and other.fold and other.fold.repeat == job.fold.repeat
        ]  # fmt: skip
        temperature, fitted = find_temperature(own, others)
        on = f"{fitted.cases} cases of {PARTS[fitted.part]}"
        print(f"train {job.title}: temperature {temperature:g} ({fitted.reason or f'fitted on {on}'})")
        card = read_card(job.model)
        write_card(job.model, card.model_copy(update={"temperature": temperature, "calibration": fitted}))


def find_temperature(own: Evidence, folds: Sequence[Unseen]) -> tuple[float, Calibration]:
    """Fit a temperature on as many images as can be had that no model of this kind has learnt from.

    Parameters
    ----------
    own
        Of the model. A few validation cases do not suffice: then the inner folds of a probe are added.
    folds
        The validation images of the other folds, whose models answered them; those that this one tests are left out.

    Returns
    -------
    float, Calibration
        As `fit_temperature`.
    """
    if folds:
        temperature, fitted = own.val.joined(*folds).without(own.tested).fit()
        if not fitted.reason:
            return temperature, fitted.model_copy(update={"part": "folds"})
    temperature, fitted = own.val.fit()
    if fitted.reason and own.inner is not None:
        other, found = own.val.joined(own.inner).fit()
        if not found.reason:
            return other, found.model_copy(update={"part": "train"})
    return temperature, fitted


def ask(model: Any, pixels: ImageStore, extra: np.ndarray | None, tta: str) -> np.ndarray:
    """Ask a model about images, a batch at a time.

    Parameters
    ----------
    model
        As `build_model` makes it, trained.
    pixels
        (n, views, size, size, 3).
    extra
        (n, k) float32, what the model is told beside the pixels; None where that is nothing.
    tta
        `model.tta`, since the temperature holds for answers to questions asked in one way.

    Returns
    -------
    numpy.ndarray
        (n, 1) or (n, classes) float32, as the model gives them, at temperature 1.
    """
    step, parts = images_at_once(pixels.shape[1]), []
    for start in range(0, len(pixels), step):
        seen = pixels[start : start + step].astype(np.float32)
        asked = seen if extra is None else {"pixels": seen, "extra": extra[start : start + step]}
        parts.append(answer_images(model, asked, 1.0, tta))
    return np.concatenate(parts)
