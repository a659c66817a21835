"""Train one model: that of a task and protocol, or that of one fold of a cross-validation."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from biopsy.core.errors import DataError
from biopsy.core.job import Job
from biopsy.core.layout import SLIDES
from biopsy.core.owned import note_made
from biopsy.core.params import Params
from biopsy.images.looks.measure import looks_of_training
from biopsy.images.preparation.record import images_of, suited_to
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model, count_weights
from biopsy.networks.feature_store import StoredModel
from biopsy.networks.model_file import Card, ProbeChoice, save_model
from biopsy.networks.temperature import both_classes, why_not
from biopsy.networks.validation import VALIDATION, write_validation
from biopsy.tables.labels.scheme import read_scheme
from biopsy.tables.slides.extra_inputs import encode_extra
from biopsy.tables.split.parts import cases_of, read_parts
from biopsy.training.calibration import Evidence, Unseen, ask
from biopsy.training.card import describe, fingerprint
from biopsy.training.contact_sheet import write_sheet
from biopsy.training.fit import fit
from biopsy.training.inputs.decoded import decode_once
from biopsy.training.inputs.loader import ImageStore
from biopsy.training.monitor import best_epoch
from biopsy.training.plots import plot_curves, plot_strengths
from biopsy.training.probing import fit_head, refit_head
from biopsy.training.processes import fit_on_workers
from biopsy.training.progress import still_improving

FILES = ("model.keras", "model.json", VALIDATION)  # what the folder of a model holds


@dataclass(frozen=True)
class Trained:
    """What is told of one training: its figures, how long its epochs of this run took, what calibrates its model."""

    figures: dict[str, Any]
    seconds: list[float]
    evidence: Evidence


@dataclass(frozen=True)
class Material:
    """What one training reads.

    Attributes
    ----------
    card
        What the model will depend on.
    table
        n rows: the training images, then those of validation.
    n_train
        How many are training images.
    images
        Their pixels, (n, views, size, size, 3).
    extra
        (n, k) float32, what the model is told beside the pixels; None where that is nothing.
    tested
        The images of the test part, which are not read.
    """

    card: Card
    table: pd.DataFrame
    n_train: int
    images: ImageStore
    extra: np.ndarray | None
    tested: frozenset[str]

    @property
    def views(self) -> int:
        """The tiles of an image, or 1."""
        return self.card.preparation.views

    @property
    def targets(self) -> np.ndarray:
        """(n,) the class of each image."""
        return self.table["target"].to_numpy()

    @property
    def cases(self) -> np.ndarray:
        """(n,) the case of each image."""
        return cases_of(self.table)

    def unseen(self, rows: slice, given: np.ndarray) -> Unseen:
        """Say of some images what the model answered that had not learnt from them, if it had learnt their class."""
        ids, wide = self.table["image_id"].to_numpy(str)[rows], both_classes(np.asarray(given, np.float64))
        foreign = ids[~np.isin(self.targets[rows], self.targets[: self.n_train])]
        return Unseen(ids, self.cases[rows], self.targets[rows], wide).without(frozenset(foreign.tolist()))


def train_model(params: Params, job: Job, code: str) -> Trained:
    """Train one model and write it and its card, at temperature 1; its curves wait beside its resume state.

    A model that an earlier, interrupted run has finished is restored from there, not trained again.

    Parameters
    ----------
    params
        Checked by `check_model`, `check_augment` and `check_train`.
    job
        One model; not a cross-validation as a whole.
    code
        A digest of the code that trains: with another one, no earlier state is taken up.

    Raises
    ------
    DataError
        Images, labels or split are missing, broken, or made with other parameters.
    MachineError
        The memory does not suffice.
    ParamsError
        The training diverged, or the probe did not converge.
    """
    seed_everything(job.seed)
    material = read_material(params, job)
    table, n_train, views, card = material.table, material.n_train, material.views, material.card
    keras.config.set_dtype_policy(params.train.precision)
    together = views if params.model.tiles == "mean" else 1
    extra_width = card.extra_inputs.width if card.extra_inputs else 0
    model = build_model(params.model, card.preparation.size, len(card.classes), extra=extra_width, tiles=together)
    live = job.resume / "live"  # so that a failed training leaves the earlier plots in place
    shown, each = np.repeat(material.targets[:n_train], views), views // together
    tiles = material.images.tiles()
    write_sheet(tiles, shown, params, job.task, card.classes, f"{job.title}, first epochs", live / "augment.png")
    store = tiles if together == 1 else material.images
    targets, cases, probe = material.targets, material.cases, params.model.head.kind == "probe"
    parents = card.labels[job.task].parent_of
    of_probe = partial(fit_head, parents=None if parents is None else np.array(parents))
    learn: Callable[..., Any] = of_probe if probe else fit_on_workers if params.train.workers > 1 else fit
    state = learn(
        model, params, job.task, store, np.repeat(targets, each), n_train * each,
        title=job.title, state_file=job.resume / "state.npz", fingerprint=fingerprint(card, code), live_dir=live,
        cases=np.repeat(cases[:n_train], each),
        extra=None if material.extra is None else np.repeat(material.extra, each, axis=0),
    )  # fmt: skip
    if probe:
        own, above = state.probe.strengths(), state.probe.strengths(parent=True)
        choice = ProbeChoice(layers=params.model.features.layers, C=own, C_parent=above)
        card = card.model_copy(update={"probe": choice})
    val_extra = None if material.extra is None else material.extra[n_train:]
    asked = StoredModel(model) if probe else model
    answers = cache(lambda: ask(asked, material.images.part(slice(n_train, None)), val_extra, card.tta))
    look = looks_of_training(
        material.images.part(slice(n_train)), list(table["width"][:n_train]), list(table["height"][:n_train])
    )
    card = card.model_copy(update={"training": look})
    inner = state.probe.inner if probe and card.tta == "none" else None  # which turns no image
    inner = None if inner is None else inner.reshape(n_train, each, -1).mean(axis=1)
    needed = job.fold or inner is not None or not why_not(material.targets[n_train:], cases[n_train:])
    given = answers() if needed else np.full((len(table) - n_train, 1), np.nan)  # too few: saves seconds
    best = best_epoch(state.history, params.train.monitor)
    about, picture = f"{job.title}, {n_train} training images", live / "curves.png"
    if probe:
        plot_strengths(state.probe, about, picture)
    else:
        plot_curves(state.history, best + 1, about, picture)
    job.model.mkdir(parents=True, exist_ok=True)
    note_made(replace(job, fold=None).model, [(job.within(Path()) / name).as_posix() for name in FILES])
    (job.model / VALIDATION).unlink(missing_ok=True)
    if probe and params.model.probe.refit:
        kept = write_validation(job.model, list(table["image_id"][n_train:]), answers())
        card = card.model_copy(update={"data": {**card.data, "validation": kept}})
        refit_head(model, params, state, np.repeat(targets, each), np.repeat(cases, each))
        print(f"train {job.title}: the probe is fitted once more with the {len(table) - n_train} validation images")
    save_model(model, job.model, card)
    shutil.rmtree(_pixels_of(job), ignore_errors=True)
    losses, figures = [epoch["val_loss"] for epoch in state.history], state.history[best]
    unfinished = not probe and still_improving(losses, params.train.epochs_of(job.task), len(card.classes))
    what = (
        f"probe with C {' and '.join(f'{c:g}' for c in [*card.probe.C, *card.probe.C_parent])}"
        if card.probe
        else f"{state.epoch} epochs, kept epoch {best + 1}"
    )
    print(f"train {job.title}: {what}, val_loss {figures['val_loss']:.3f}")
    if unfinished:
        print(f"train {job.title}: still improving when its epochs ran out. Raise train.epochs to train it further.")
    return Trained(
        {"epochs": state.epoch, "best_epoch": best + 1, "train_images": n_train, "val_images": len(table) - n_train}
        | {"still_improving": unfinished}
        | dict(zip(("weights", "trainable"), count_weights(model), strict=True))
        | {key: round(value, 6) for key, value in figures.items()},
        state.seconds,
        Evidence(
            material.unseen(slice(n_train, None), given),
            None if inner is None else material.unseen(slice(n_train), inner).answered(),
            material.tested,
        ),
    )


def read_material(params: Params, job: Job) -> Material:
    """Read labels, split and pixels of one training, and describe its model."""
    tree, preparation = images_of(job.root, job.protocol, job.fold.name if job.fold else None)
    resize = suited_to(params.resize, job.labels)
    if preparation.resize != resize:
        found = preparation.differences(preparation.model_copy(update={"resize": resize}))
        raise DataError(f"{tree} was made with other parameters ({found}). Run `dvc repro`.")
    scheme = read_scheme(job.root / "models/labels.json")
    table = read_parts(job.labels, job.split, tree, job.task, scheme[job.task].names, job.fold)
    encoder, extra = encode_extra(table, params.model.extra_inputs, job.root / SLIDES)
    size, views, n_train = preparation.size, preparation.views, int((table["part"] == "train").sum())
    shared = params.train.workers > 1 and params.data.engine == "ray"  # with nodes that see the project's folder alone
    decoded = decode_once(list(table["file"]), size, views, params.train.cache_mb, _pixels_of(job) if shared else None)
    rows = {part: np.flatnonzero(table["part"] == part) for part in ("train", "val", "test")}
    used, tested = np.append(rows["train"], rows["val"]), table["image_id"].iloc[rows["test"]]
    table, extra = table.iloc[used], None if extra is None else extra[used]
    images = ImageStore(decoded, used)
    data = {"pixels": images.sha256(), "val_pixels": images.part(slice(n_train, None)).sha256()}
    if extra is not None:
        data["extra"] = hashlib.sha256(np.ascontiguousarray(extra).data).hexdigest()
    data["test_pixels"] = ImageStore(decoded, rows["test"]).sha256()  # for `evaluate`; nothing is learnt from a hash
    card = describe(params, job, scheme, preparation, encoder, data)
    return Material(card, table, n_train, images, extra, frozenset(tested))


def _pixels_of(job: Job) -> Path:
    """Return where the decoded images of a training lie that does not share them with others of its machine."""
    return job.resume / "pixels"


def mean_figures(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the figures of several trainings and say how many those are; those of one stay as they are."""
    if len(folds) == 1:
        return folds[0]
    shared = [key for key in folds[0] if all(key in fold for fold in folds)]  # a fold may not define train.monitor
    means = {key: fmean(fold[key] for fold in folds) for key in shared}
    return {"folds": len(folds)} | {key: int(m) if m == int(m) else round(m, 6) for key, m in means.items()}
