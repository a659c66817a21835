"""Train one model, or one of each fold: `python stages/train.py --task binary --protocol case`."""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from biopsy.core.code_digest import loaded_digest
from biopsy.core.encoders import terms_of
from biopsy.core.errors import DataError
from biopsy.core.files import atomic_dir, read_json, sha256, write_json
from biopsy.core.job import Job
from biopsy.core.layout import SLIDES, SOURCE
from biopsy.core.outside import Outside, watch
from biopsy.core.owned import check_owned, note_made
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.images.looks.measure import looks_of_training
from biopsy.images.preparation.record import Preparation, images_of
from biopsy.networks.backbones.registry import find
from biopsy.networks.backend import keras, libraries, seed_everything
from biopsy.networks.build import build_model, check_model, count_weights
from biopsy.networks.model_file import Card, ProbeChoice, save_model
from biopsy.networks.validation import VALIDATION, write_validation
from biopsy.sources.web.hub import fetch_weights
from biopsy.tables.labels.scheme import LabelScheme, read_scheme
from biopsy.tables.slides.extra_inputs import Encoder, encode_extra
from biopsy.tables.split.parts import cases_of, hash_images, read_parts
from biopsy.training.augment.pipeline import check_augment
from biopsy.training.calibration import ask, fit_calibration
from biopsy.training.contact_sheet import write_sheet
from biopsy.training.fit import check_engine, check_train, fit
from biopsy.training.inputs.loader import ImageStore
from biopsy.training.memory import peak_mb
from biopsy.training.monitor import best_epoch
from biopsy.training.plots import plot_curves
from biopsy.training.probing import fit_head, refit_head
from biopsy.training.processes import fit_on_workers
from biopsy.training.progress import still_improving

FILES = ("model.keras", "model.json", VALIDATION)


@dataclass(frozen=True)
class Trained:
    """What is told of one training: its figures, and how long its epochs of this run took."""

    figures: dict[str, Any]
    seconds: list[float]


def train(params: Params, task: str, protocol: str, root: Path = Path()) -> None:
    """Train the model, or those of all folds one after the other; write models, figures and curves below `root`."""
    job = Job(task, protocol, params.seed, root)
    check_owned(job.model, [(each.within(Path()) / name).as_posix() for each in job.each for name in FILES])
    fetch_weights(params.model)
    check_model(params.model, params.resize.size)
    check_augment(params.augment)
    check_train(params.train)
    check_engine(params.train)
    code = loaded_digest(Path(__file__))  # now, before the minutes of reading in which somebody may edit it
    trained = [train_fold(params, each, code) for each in job.each]
    with atomic_dir(job.plots / "train") as plots:
        for each in job.each:
            each.within(plots).mkdir(exist_ok=True)
            for item in (each.resume / "live").iterdir():
                shutil.move(item, each.within(plots) / item.name)  # no second copy: the disk may be full
    figures = mean_figures([one.figures for one in trained])
    write_json(job.metrics / "train.json", figures)
    seconds = [second for one in trained for second in one.seconds]
    took = f"{median(seconds):.2f} s an epoch, " if seconds else ""  # printed, in no file: no two runs cost the same
    print(f"train {job.name}: {took}{peak_mb()} MB at most")
    if terms := terms_of(params.model.encoder.name):
        print(f"train {job.name}: {terms}")
    shutil.rmtree(job.resume, ignore_errors=True)
    if "folds" in figures:
        print(f"train {job.name}: {figures['folds']} folds, mean val_loss {figures['val_loss']:.3f}")


def train_fold(params: Params, job: Job, code: str) -> Trained:
    """Train one model and write it and its card; its curves wait beside its resume state, as the state itself does.

    A fold that an earlier run has finished is restored from there, not trained again.
    """
    seed_everything(job.seed)
    tree, preparation = images_of(job.root, job.protocol)
    if preparation.resize != params.resize:
        found = preparation.differences(preparation.model_copy(update={"resize": params.resize}))
        raise DataError(f"{tree} was made with other parameters ({found}). Run `dvc repro`.")
    scheme = read_scheme(job.root / "models/labels.json")
    table = read_parts(job.labels, job.split, tree, job.task, scheme[job.task].names, job.fold)
    encoder, extra = encode_extra(table, params.model.extra_inputs, job.root / SLIDES)
    test = list(table.loc[table["part"] == "test", "file"])
    used = np.concatenate([np.flatnonzero(table["part"] == part) for part in ("train", "val")])
    table, extra = table.iloc[used], None if extra is None else extra[used]
    n_train = int((table["part"] == "train").sum())
    size, views = preparation.size, preparation.views
    spill = job.resume / "images.npy"
    kept_mb = params.train.cache_mb if params.train.workers == 1 else 0  # other processes read the file
    store = ImageStore.read(list(table["file"]), size, kept_mb, spill, views)
    seen = {"pixels": store.array, "val_pixels": store.array[n_train * views :], "extra": extra}
    data = {what: hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for what, a in seen.items() if a is not None}
    data["test_pixels"] = hash_images(test, size, views)  # `evaluate` asks for them; nothing is learnt from a hash
    card = describe(params, job, scheme, preparation, encoder, data)
    classes = len(card.classes)
    keras.config.set_dtype_policy(params.train.precision)
    together = views if params.model.tiles == "mean" else 1
    model = build_model(params.model, size, classes, extra=encoder.width if encoder else 0, tiles=together)
    live, targets = job.resume / "live", table["target"].to_numpy()  # a training that fails costs nobody earlier plots
    title, shown, each = f"{job.title}, first epochs", np.repeat(targets[:n_train], views), views // together
    write_sheet(store, shown, params, job.task, card.classes, title, live / "augment.png")
    store = store if together == 1 else store.together(together)
    val_extra = None if extra is None else extra[n_train:]
    extra = None if extra is None else np.repeat(extra, each, axis=0)
    cases, probe = cases_of(table), params.model.head.kind == "probe"
    learn: Callable[..., Any] = fit_head if probe else fit_on_workers if params.train.workers > 1 else fit
    state = learn(
        model, params, job.task, store, np.repeat(targets, each), n_train * each,
        title=job.title, state_file=job.resume / "state.npz", fingerprint=fingerprint(card, code), live_dir=live,
        cases=np.repeat(cases[:n_train], each), extra=extra,
    )  # fmt: skip
    if probe:
        card = card.model_copy(update={"probe": ProbeChoice(layers=list(state.probe.layers), C=state.probe.C)})
    images = store.array.reshape(-1, views, size, size, 3)
    answers = cache(lambda: ask(model, images[n_train:], val_extra, card.tta))
    temperature, fitted = fit_calibration(answers, targets[n_train:], cases[n_train:])
    look = looks_of_training(images[:n_train], list(table["width"][:n_train]), list(table["height"][:n_train]))
    card = card.model_copy(update={"temperature": temperature, "calibration": fitted, "training": look})
    print(f"train {job.title}: temperature {temperature:g}" + (f" ({fitted.reason})" if fitted.reason else ""))
    losses, best = [figures["val_loss"] for figures in state.history], best_epoch(state.history, params.train.monitor)
    plot_curves(state.history, best + 1, f"{job.title}, {n_train} training images", live / "curves.png")
    job.model.mkdir(parents=True, exist_ok=True)
    note_made(replace(job, fold=None).model, [(job.within(Path()) / name).as_posix() for name in FILES])
    (job.model / VALIDATION).unlink(missing_ok=True)
    if probe and params.model.probe.refit:
        kept = write_validation(job.model, list(table["image_id"][n_train:]), answers())
        card = card.model_copy(update={"data": {**card.data, "validation": kept}})
        refit_head(model, params, state, np.repeat(targets, each), np.repeat(cases, each))
        print(f"train {job.title}: fitted once more with the {len(table) - n_train} validation images")
    save_model(model, job.model, card)
    spill.unlink(missing_ok=True)
    unfinished = not probe and still_improving(losses, params.train.epochs_of(job.task), classes)
    kept = state.history[best]
    print(f"train {job.title}: {state.epoch} epochs, kept epoch {best + 1}, val_loss {kept['val_loss']:.3f}")
    if unfinished:
        print(f"train {job.title}: still improving when its epochs ran out. Raise train.epochs to train it further.")
    return Trained(
        {"epochs": state.epoch, "best_epoch": best + 1, "train_images": n_train, "val_images": len(table) - n_train}
        | {"still_improving": unfinished}
        | dict(zip(("weights", "trainable"), count_weights(model), strict=True))
        | {key: round(value, 6) for key, value in kept.items()},
        state.seconds,
    )


def mean_figures(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the figures of several trainings and say how many those are; those of one stay as they are."""
    if len(folds) == 1:
        return folds[0]
    shared = [key for key in folds[0] if all(key in fold for fold in folds)]  # a fold may not define train.monitor
    means = {key: fmean(fold[key] for fold in folds) for key in shared}
    return {"folds": len(folds)} | {key: int(m) if m == int(m) else round(m, 6) for key, m in means.items()}


def describe(
    params: Params, job: Job, scheme: LabelScheme, preparation: Preparation, encoder: Encoder | None,
    data: dict[str, str],
) -> Card:  # fmt: skip
    """Make the model's card: all that the training depends on; `data` holds the hashes of what was read."""
    chosen = params.model_dump(include={"seed", "resize", "model", "augment", "train"})
    chosen["train"]["epochs"] = params.train.epochs_of(job.task)
    del chosen["train"]["cache_mb"]  # it says where the images wait, and changes no result
    weights = params.model.weights_file
    return Card(
        task=job.task,
        protocol=job.protocol,
        fold=job.fold.name if job.fold else None,
        labels=scheme,
        preparation=preparation,
        preprocessing=find(params.model.backbone).preprocessing,
        extra_inputs=encoder,
        threshold=0.5,
        synthetic=read_json(job.root / SOURCE, {"synthetic": bool})["synthetic"],
        backbone_weights_sha256=sha256(weights) if weights and weights.is_file() else None,
        data={"labels": sha256(job.labels), "split": sha256(job.split)} | data,
        params=chosen,
        terms=terms_of(params.model.encoder.name),
        keras=keras.__version__,
    )


def fingerprint(card: Card, code: str) -> str:
    """Name a training: equal for equal parameters, data, code and libraries."""
    content: dict[str, Any] = card.model_dump(mode="json") | libraries() | {"code": code}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def main() -> None:
    """Read parameters and arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--protocol", required=True)
    chosen = parser.parse_args()
    params = read_params()
    weights = params.model.weights_file
    own = [] if weights is None or params.model.weights.startswith("hf:") else [Outside("model.weights", weights)]
    with watch("train", own):
        train(params, chosen.task, chosen.protocol)


if __name__ == "__main__":
    run_stage(main, "the epochs that are done are kept. Run `dvc repro` again to continue after the last whole one.")
