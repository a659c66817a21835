"""What the stages wrote of each model, read for the report; what is missing or broken becomes a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from biopsy.core.errors import BiopsyError, DataError
from biopsy.core.files import read_csv
from biopsy.core.job import Job
from biopsy.core.layout import PREDICTIONS
from biopsy.core.params import Params
from biopsy.core.sections.data import Resize
from biopsy.evaluation.appearance import LOOKS
from biopsy.evaluation.outcome import make_outcome
from biopsy.evaluation.pairing import read_predictions
from biopsy.evaluation.predictions import Answers
from biopsy.evaluation.records import Details, Impute, Ingest, Resized, Short, Splits, Stained, read_record
from biopsy.tables.labels.scheme import LabelScheme, SchemeTask, read_scheme

AGAIN = "Run `dvc repro`."


@dataclass(frozen=True)
class Result:
    """One row of the results.

    Attributes
    ----------
    appearance
        How images look (`appearance_table`); None where that is not known.
    """

    job: Job
    scheme: SchemeTask
    details: dict[str, Any]
    val: dict[str, Any]
    train: dict[str, Any]
    test: Answers
    appearance: pd.DataFrame | None = None

    @property
    def title(self) -> str:
        """How the report calls it."""
        return f"{self.job.task}, protocol {self.job.protocol}"

    @property
    def calibrated(self) -> bool:
        """Whether a temperature changed the probabilities of the test images."""
        return bool((self.test.temperatures != 1).any())


@dataclass(frozen=True)
class Run:
    """All that the report and the cards tell, read once.

    Attributes
    ----------
    params, root
        The parameters in force, and the project's folder.
    scheme
        Of the labels.
    results, problems
        As `read_results`.
    splits, ingest, impute, resized
        metrics/split.json, ingest.json, impute.json and resize.json; empty where they are missing or broken.
    stained
        By protocol how many images, over all folds, had their stain normalised, and of how many.
    """

    params: Params
    root: Path
    scheme: LabelScheme
    results: list[Result]
    problems: list[str]
    splits: dict[str, Any]
    ingest: dict[str, Any]
    impute: dict[str, Any]
    resized: dict[str, Any]
    stained: dict[str, tuple[int, int]]

    @property
    def resize(self) -> Resize:
        """How images were resized: as the parameters say, or stretched where all are smaller than a tile."""
        return self.params.resize.model_copy(update={"mode": self.resized.get("mode", self.params.resize.mode)})

    @property
    def stain(self) -> str:
        """By which method stains were normalised: as the parameters say, or 'none' where no image had one to fit on."""
        none = self.stained and not any(done for done, _ in self.stained.values())
        return "none" if none else self.params.stain.method


def read_run(params: Params, root: Path) -> Run:
    """Read what the project below `root` has come to. Raises `DataError` where nothing has run yet."""
    scheme = read_scheme(root / "models/labels.json")
    results, problems = read_results(params.tasks, params.protocols, scheme, root)

    def told(name: str, kind: type[BaseModel]) -> dict[str, Any]:
        return read_optional(root / f"metrics/{name}.json", kind)

    return Run(
        params, root, scheme, results, problems, splits=told("split", Splits), ingest=told("ingest", Ingest),
        impute=told("impute", Impute), resized=told("resize", Resized), stained=read_stained(params.protocols, root),
    )  # fmt: skip


def read_stained(protocols: Sequence[str], root: Path) -> dict[str, tuple[int, int]]:
    """Count by protocol the images whose stain was normalised, and all; of no method, and where not known, nothing."""
    found = {}
    for protocol in protocols:
        told = read_optional(root / f"metrics/stain-{protocol}.json", Stained)
        each = list(told.get("folds", {}).values()) or [told]
        if images := sum(fold.get("images", 0) for fold in each):
            found[protocol] = sum(fold.get("normalised", 0) for fold in each), images
    return found


def read_results(
    tasks: Sequence[str], protocols: Sequence[str], scheme: LabelScheme, root: Path
) -> tuple[list[Result], list[str]]:
    """Read every model's results; also say in a sentence each which ones are missing or broken."""
    found, problems = [], []
    for job in (Job(task, protocol, root=root) for task in tasks for protocol in protocols):
        try:
            found.append(read_result(job, scheme))
        except BiopsyError as error:
            problems.append(f"{job.task}, protocol {job.protocol}, is not in this report: {error}")
    return found, problems


def read_result(job: Job, scheme: LabelScheme) -> Result:
    """Read the results of one model, or of all folds. Raises `DataError` where a file is missing or not ours."""
    if not (job.metrics / "test.json").is_file():
        raise DataError(f"it has not been tested yet. {AGAIN}")
    details = read_record(job.metrics / "details.json", Details, AGAIN)
    task = scheme[job.task] if job.task in scheme.tasks else None
    if task is None or list(details["classes"]) != task.names:
        raise DataError(f"its classes are not those of models/labels.json. {AGAIN}")
    val, train = (read_record(job.metrics / f"{name}.json", Short) for name in ("val", "train"))
    return Result(job, task, details, val, train, read_answers(job, task, details), read_appearance(job))


def read_appearance(job: Job) -> pd.DataFrame | None:
    """Read how the images look; None where the table is missing or damaged, which the report says in its place."""
    try:
        table = read_csv(job.root / PREDICTIONS / f"{job.name}-images.csv", ["image_id", "part", *LOOKS])
        words = [name for name in ("image_id", "part", "nearest") if name in table]
        numbers = table.drop(columns=words).replace("", "nan").astype(float)
    except (BiopsyError, ValueError):
        return None
    return pd.concat([table[words], numbers], axis=1)


def read_answers(job: Job, task: SchemeTask, details: dict[str, Any]) -> Answers:
    """Read the table of predictions of the test part."""
    path = job.root / PREDICTIONS / f"{job.name}.csv"
    names, shown = task.names, path.relative_to(job.root)
    try:
        rows = read_predictions(path, str(shown))
    except FileNotFoundError:
        raise DataError(f"{shown} is missing. {AGAIN}") from None
    columns = [f"p_{name}" for name in names]
    lacking = [column for column in ("magnification", *columns) if column not in rows]
    if lacking or not set(rows["truth"]) <= set(names):
        reason = f"it has no column {lacking[0]}" if lacking else "it has other classes"
        raise DataError(f"{shown} is not a table of predictions of this task ({reason}). {AGAIN}")
    if "fold" in rows:
        rows = rows[rows["fold"].str.startswith("1-")].reset_index(drop=True)
    truth, given = np.array([names.index(name) for name in rows["truth"]], dtype=int), rows[columns].to_numpy()
    by_fold = {model.get("fold"): float(model["temperature"]) for model in details["models"]}
    folds = rows["fold"] if "fold" in rows else [None] * len(rows)
    temperatures = np.array([by_fold.get(fold, 1.0) for fold in folds], dtype=float)
    outcome = make_outcome(truth, given, names, float(details["threshold"]), task.positive)
    return Answers(rows, outcome, temperatures)


def read_optional(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """Read a metrics file; an empty dict where it is missing or broken, which the report says in its place."""
    try:
        return read_record(path, kind)
    except DataError:
        return {}
