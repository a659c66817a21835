"""What a model answers about the images of its test and validation part, and the answers of folds put together."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biopsy.core.errors import DataError
from biopsy.core.files import sha256
from biopsy.core.job import Job
from biopsy.core.layout import SLIDES
from biopsy.evaluation.appearance import appearance_table
from biopsy.evaluation.outcome import make_outcome
from biopsy.evaluation.predictions import Answers, predict
from biopsy.images.preparation.record import Preparation, images_of
from biopsy.networks.answers import answer_images, images_at_once
from biopsy.networks.backend import seed_everything
from biopsy.networks.feature_store import StoredModel
from biopsy.networks.features import feature_model
from biopsy.networks.model_file import Card, load_model
from biopsy.networks.temperature import calibrate
from biopsy.networks.validation import read_validation
from biopsy.tables.labels.scheme import read_scheme
from biopsy.tables.slides.extra_inputs import read_facts
from biopsy.tables.split.parts import read_parts, read_views


@dataclass(frozen=True)
class ModelAnswers:
    """What one model answers: about its test and validation part, and of the first model how images look to it.

    Attributes
    ----------
    unseen
        The tested classes of which it has seen no training image.
    """

    job: Job
    card: Card
    parts: dict[str, Answers]
    unseen: list[str]
    appearance: pd.DataFrame | None


def answer(job: Job, look: bool) -> ModelAnswers:
    """Let one model answer about its test and its validation part; `look`: also measure how images look to it."""
    seed_everything(job.seed)
    where, root = job.within(Path("models", job.name)), job.root
    tree, preparation = images_of(root, job.protocol, job.fold.name if job.fold else None)
    model, card = load_model(job.model)
    _check(job, card, tree, preparation)
    table = read_parts(job.labels, job.split, tree, job.task, card.classes, job.fold)
    for what, file in {"labels": job.labels, "split": job.split}.items():
        if card.data.get(what) != sha256(file):  # else its own training images could be what it is tested on
            raise DataError(f"{where} was trained with other {what} than {file}. Make it again with `dvc repro`.")
    asked = StoredModel(model) if card.probe else model

    def ask(part: str) -> Answers:
        rows = table[table["part"] == part].reset_index(drop=True)
        extra, seen = None, hashlib.sha256()
        if card.extra_inputs:
            facts = read_facts(rows, card.extra_inputs.inputs, root / SLIDES)
            extra = card.extra_inputs.encode(facts)

        def read(files: list[Path]) -> NDArray[np.uint8]:
            pixels = read_views(files, preparation.size, preparation.views)
            seen.update(pixels.data)
            return pixels

        batch = images_at_once(preparation.views)
        now: Callable[[Any], Any] = partial(answer_images, asked, temperature=card.temperature, tta=card.tta)
        before = earlier_answers(job.model, card, list(rows["image_id"]), batch) if part == "val" else None
        probabilities = predict(before or now, list(rows["file"]), read, batch, extra)
        if card.data.get(f"{part}_pixels") != seen.hexdigest():
            raise DataError(
                f"{where} was made for other {part} images than those in {tree}, though their labels and parts are the "
                "same. Make it again with `dvc repro`."
            )
        target, positive = rows["target"].to_numpy(), card.labels[job.task].positive
        outcome = make_outcome(target, probabilities, card.classes, card.threshold, positive)
        rows = rows.assign(fold=job.fold.name) if job.fold else rows
        return Answers(rows, outcome, np.full(len(rows), card.temperature))

    answers = {part: ask(part) for part in ("test", "val")}
    network = asked.without_head() if isinstance(asked, StoredModel) else feature_model(model)
    looks = look_at_images(network, job, table, preparation) if look else None
    if isinstance(asked, StoredModel):
        asked.keep()
    return ModelAnswers(job, card, answers, _unseen(job, card, table), looks)


def _check(job: Job, card: Card, tree: Path, preparation: Preparation) -> None:
    """Raise `DataError` where a model is of another task, label scheme or preparation than those in force."""
    where, root = job.within(Path("models", job.name)), job.root
    if (card.task, card.protocol, card.fold) != (job.task, job.protocol, job.fold.name if job.fold else None):
        of = f"{card.task}, {card.protocol}" + (f", fold {card.fold}" if card.fold else "")
        raise DataError(f"{where} is a model of {of}. Make it again with `dvc repro`.")
    if card.labels != read_scheme(root / "models/labels.json"):
        raise DataError(f"{where} was trained with another label scheme. Make it again with `dvc repro`.")
    if card.preparation != preparation:
        found = card.preparation.differences(preparation)
        raise DataError(f"{where} was trained on images of other kind than {tree} ({found}). Run `dvc repro`.")


def _unseen(job: Job, card: Card, table: pd.DataFrame) -> list[str]:
    """List the tested classes of which the model has seen no training image."""
    learnt = ["train", "val"] if "validation" in card.data else ["train"]  # of which a probe may have learnt since
    trained, tested = (set(table.loc[table["part"].isin(parts), "target"]) for parts in (learnt, ["test"]))
    return [name for i, name in enumerate(card.classes) if i not in trained and (not job.fold or i in tested)]


def look_at_images(network: Any, job: Job, table: pd.DataFrame, preparation: Preparation) -> pd.DataFrame:
    """Measure the images that are tested, those of all folds, and some of the others, and ask for their features."""
    views = preparation.views
    read = partial(read_views, size=preparation.size, views=views)

    def features(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        step = images_at_once(views)
        parts = [answer_images(network, pixels[i : i + step], 1.0, "none") for i in range(0, len(pixels), step)]
        return np.concatenate(parts)

    needed = np.full(len(table), bool(job.fold)) | (table["part"] == "test").to_numpy()
    return appearance_table(table, needed, read, features if network else None)


def earlier_answers(folder: Path, card: Card, ids: list[str], batch: int) -> Callable[[Any], Any] | None:
    """Repeat, batch by batch, what a model answered about images from which it has learnt since; None: it has not."""
    given = read_validation(folder, card, ids)
    if given is None:
        return None
    parts = (calibrate(given[start : start + batch], card.temperature) for start in range(0, len(ids), batch))
    return lambda _: next(parts)


def pool(folds: list[tuple[Job, Answers]]) -> list[Answers]:
    """Put the folds of each repeat together, so that each image stands in it once; a single model is as it is."""
    repeats: dict[int, list[Answers]] = {}
    for job, answers in folds:
        repeats.setdefault(job.fold.repeat if job.fold else 0, []).append(answers)
    pooled = []
    for parts in repeats.values():
        rows = pd.concat([a.rows for a in parts], ignore_index=True)
        order = rows["image_id"].argsort(kind="stable").to_numpy()
        whole = replace(
            parts[0].outcome,
            truth=np.concatenate([a.outcome.truth for a in parts]),
            probabilities=np.concatenate([a.outcome.probabilities for a in parts]),
        )
        temperatures = np.concatenate([a.temperatures for a in parts])
        pooled.append(Answers(rows.iloc[order].reset_index(drop=True), whole[order], temperatures[order]))
    return pooled
