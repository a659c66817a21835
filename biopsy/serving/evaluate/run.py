"""`biopsy evaluate`: test a trained model on a user's own labelled images, as the pipeline tests it on its test set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from biopsy.core.errors import DataError, ParamsError, some, warn
from biopsy.core.files import atomic_files, sha256, write_csv, write_json
from biopsy.core.text import count
from biopsy.evaluation.appearance import LOOKS
from biopsy.evaluation.calibration import describe_calibration, describe_fit
from biopsy.evaluation.decision import decision_curve
from biopsy.evaluation.figures import NO_CASES, evaluate_outcome
from biopsy.evaluation.operating import tried_points
from biopsy.evaluation.outcome import make_outcome, settle
from biopsy.evaluation.predictions import Answers, magnifications
from biopsy.evaluation.report.words import interval, number
from biopsy.evaluation.shift import describe_shift
from biopsy.networks.model_file import NOTICE, Card, read_card
from biopsy.serving.decoding import named
from biopsy.serving.evaluate.labelled import NO_FILE, Labelled, count_left_out, read_labelled
from biopsy.serving.evaluate.page import render, too_high
from biopsy.serving.figures import FiguresOf, figures_of_test
from biopsy.serving.model import Model, describe
from biopsy.serving.onnx_file import exported_file, open_file
from biopsy.serving.predict.chosen import Watch
from biopsy.serving.predict.tables import spare

FILES = ("metrics.json", "predictions.csv", "report.html")


@dataclass(frozen=True)
class LabelledImages:
    """What is to be evaluated.

    Attributes
    ----------
    csv, images
        The table, and the folder of its images; None: the CSV's.
    label, words
        As for `read_labelled`.
    """

    csv: Path
    images: Path | None = None
    label: str | None = None
    words: Sequence[str] = ()

    def read(self, card: Card) -> Labelled:
        """Read the table with the model's label scheme."""
        return read_labelled(self.csv, self.images or self.csv.parent, card.labels, card.task, self.label, self.words)


def evaluate_elsewhere(path: Path, asked: LabelledImages, out: Path, figures_of: FiguresOf | None = None) -> int:
    """Evaluate a model; write metrics.json, predictions.csv and report.html into a folder.

    Parameters
    ----------
    path
        The model: a folder, or the .onnx file of `biopsy export`, which needs no TensorFlow.
    asked
        The images and their labels.
    out
        The folder; other files in it stay.
    figures_of
        How to find the test figures of a model's folder; an .onnx file holds its own.

    Returns
    -------
    int
        How many rows have no figure, because their label or file is missing or cannot be used.

    Raises
    ------
    DataError, ParamsError, SourceError
        The model or the table cannot be used, or no image can be read.
    """
    if out.exists() and not out.is_dir():
        raise ParamsError(f"--out: {out} is a file. Name a folder for {', '.join(FILES)}.")
    if not asked.csv.is_file():
        raise ParamsError(f"--csv: {asked.csv} is not a file. Name a CSV that lists images and their labels.")
    for name in FILES:
        spare(out / name, [asked.csv], "--out")
    exported = exported_file(path)
    card = open_file(exported)[2] if exported else read_card(path)
    table = asked.read(card)  # before the model loads, which takes longer
    for reason, n in count_left_out(table.rows).items():
        warn(f"{asked.csv}: {count(n, 'row')} left out: {reason}.")
    model = Model(path)
    print(describe(model.card))
    answered = _answer(model, table)
    rows, test = answered.rows, answered.test
    own, cases_are = figures_of_test(model, figures_of), _cases_are(rows[rows["error"] == ""])
    points = dict((own or {}).get("operating_point") or {})
    if points:
        points = tried_points(points, (test.outcome, test.cases))
        points |= {"case": {"reason": NO_CASES}} if cases_are["image"] and "reason" not in points else {}
    details = {
        "notice": NOTICE, "task": card.task, "protocol": card.protocol, "synthetic": card.synthetic,
        "rows": len(rows), "left_out": count_left_out(rows), "cases_are": cases_are,
        **evaluate_outcome(test.outcome, test.cases, magnifications(test.rows)),
        **settle({
            "calibration": describe_calibration(test.outcome, test.temperatures),
            "decision": decision_curve(test.outcome, test.cases),
        }),
        "seen_in_training": answered.seen,
        "shift": describe_shift(answered.looks, card.training),
        "own_test": own,
        **({"operating_point": points} if points else {}),
        "csv": {"name": asked.csv.name, "sha256": sha256(asked.csv), "separator": table.separator},
        "models": [{"sha256": card.model_sha256, **describe_fit(card.calibration, card.temperature)}],
    }  # fmt: skip
    looks = pd.DataFrame(answered.looks).reindex(columns=list(LOOKS))
    page = render(card, details, replace(test, rows=test.rows.join(looks)), rows)
    answered.watch.tell(learnt=False)  # it is said of the figure, below
    with atomic_files(out, FILES) as (metrics, predictions, new):
        write_json(metrics, details)
        write_csv(predictions, _predictions(answered, model, card))
        new.write_text(page, "utf-8")
    macro, ends = details["image_level"]["macro_f1"], details["intervals"]["macro_f1"]
    sure = f"95 % interval {interval(ends)}" if ends else f"no interval: {details['intervals']['reasons']['macro_f1']}"
    known = details["cases_are"]["case"] + details["cases_are"]["slide"]
    cases = f"of {count(details['cases'], 'case')}" if known else "whose cases are not known"
    images = count(details["images"], "image")
    print(f"evaluate {path}: macro-F1 {number(macro)} ({sure}) on {images} {cases} -> {out / FILES[2]}")
    if answered.seen:
        warn(f"{too_high(details)} See the column 'in_training' of {FILES[1]}.")
    return int((rows["error"] != "").sum())


@dataclass(frozen=True)
class _Answered:
    """All rows of the table; of those without an error, in order, answers, looks, and whether they were learnt from."""

    rows: pd.DataFrame
    test: Answers
    looks: list[dict[str, float]]
    learnt: list[bool | None]
    watch: Watch

    @property
    def seen(self) -> int | None:
        """How many the model has learnt from; None: not known."""
        return None if None in self.learnt else sum(map(bool, self.learnt))


def _answer(model: Model, table: Labelled) -> _Answered:
    """Let the model answer about each image that can be read."""
    rows, card = table.rows.copy(), model.card
    files: dict[int, Path] = {i: Path(file) for i, file in enumerate(rows["file"]) if rows["error"][i] == ""}
    looks: dict[int, dict[str, float]] = {}

    found: dict[int, NDArray[np.float64]] = {}
    learnt, watch = list[bool | None](), Watch()
    images = ((i, files[i]) for i in tqdm(files, "evaluate", unit="image"))
    for place, given in model.answers(images, looked=True):
        watch.see(given)
        if given.error:
            rows.loc[place, "error"] = named(given.error, str(files[place]))
        else:
            found[place] = given.probabilities
            learnt.append(given.learnt)
            looks[place] = given.look or {}
    if not found:
        raise DataError(f"none of the images has an answer ({some(rows.loc[list(files), 'error'], 1)}).")
    used, task = rows.loc[list(found)].reset_index(drop=True), card.labels[card.task]
    truth = np.array([task.names.index(name) for name in used["truth"]])
    outcome = make_outcome(truth, np.stack(list(found.values())), task.names, card.threshold, task.positive)
    test = Answers(used, outcome, np.full(len(used), card.temperature))
    return _Answered(rows, test, [looks[place] for place in found], learnt, watch)


def _cases_are(rows: pd.DataFrame) -> dict[str, int]:
    """Count the images whose case the table names, whose slide stands for it, and which stand alone."""
    case, slide = rows["named_case"] != "", rows["slide"] != ""
    return {"case": int(case.sum()), "slide": int((~case & slide).sum()), "image": int((~case & ~slide).sum())}


def _predictions(answered: _Answered, model: Model, card: Card) -> pd.DataFrame:
    """Join every row of the table with its prediction."""
    rows = answered.rows
    table = rows[["row", "image_id", "named_case", "slide", "magnification", "truth"]]
    table = table.rename(columns={"image_id": "image", "named_case": "case"})
    columns = ["predicted", *(f"p_{name}" for name in card.classes), "in_training", "unlike_training"]
    told = [
        [card.classes[model.choose(given)], *(f"{value:.6f}" for value in given),
         "" if learnt is None else str(learnt), " ".join(card.training.unlike(look)) if card.training else ""]
        for given, look, learnt in zip(
            answered.test.outcome.probabilities, answered.looks, answered.learnt, strict=True
        )
    ]  # fmt: skip
    table[columns] = ""
    table.loc[rows["error"] == "", columns] = told
    hints = [f" ({hint})" if isinstance(hint, str) else "" for hint in rows["hint"]]
    return table.assign(error=rows["error"].where(rows["error"] != NO_FILE, rows["error"] + hints))
