"""Test one model: `python stages/evaluate.py --task binary --protocol case`."""

import argparse
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import DataError
from biopsy.core.files import atomic_dir, sha256, write_csv, write_json
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.evaluation.figures import evaluate_outcome, summary
from biopsy.evaluation.outcome import Outcome, make_outcome
from biopsy.evaluation.plots import About, plot_confusion, plot_curves, plot_magnifications, save
from biopsy.evaluation.predictions import (
    confusion_table,
    curve_table,
    magnification_table,
    magnifications,
    predict,
    prediction_table,
)
from biopsy.images.preparation.record import images_of
from biopsy.networks.answers import answer_images
from biopsy.networks.backend import seed_everything
from biopsy.networks.model_file import load_model
from biopsy.tables.labels.scheme import SchemeTask, read_scheme
from biopsy.tables.slides.extra_inputs import read_facts
from biopsy.tables.split.parts import read_images, read_parts

BATCH = 32  # squares that the network sees at once


def evaluate(params: Params, task: str, protocol: str, root: Path = Path()) -> None:
    """Predict the test part; write its figures, tables, pictures and the predictions below `root`."""
    name = f"{task}-{protocol}"
    seed_everything(params.seed)
    labels, split = root / "data/interim/labels.csv", root / "data/splits" / f"{protocol}.csv"
    tree, preparation = images_of(root, protocol)
    model, card = load_model(root / "models" / name)
    if (card.task, card.protocol) != (task, protocol):
        raise DataError(f"models/{name} is a model of {card.task}, {card.protocol}. Make it again with `dvc repro`.")
    if card.labels != read_scheme(root / "models/labels.json"):
        raise DataError(f"models/{name} was trained with another label scheme. Make it again with `dvc repro`.")
    if card.preparation != preparation:
        found = card.preparation.differences(preparation)
        raise DataError(f"models/{name} was trained on images of other kind than {tree} ({found}). Run `dvc repro`.")
    table = read_parts(labels, split, tree, task, card.classes)
    trained, rows = table[table["part"] == "train"], table[table["part"] == "test"].reset_index(drop=True)
    for what, file in {"labels": labels, "split": split}.items():
        if card.data.get(what) != sha256(file):  # else its own training images could be what it is tested on
            raise DataError(f"models/{name} was trained with other {what} than {file}. Make it again with `dvc repro`.")
    extra = None
    if card.extra_inputs:
        facts = read_facts(rows, card.extra_inputs.inputs, root / "data/raw/slides.csv")
        extra = card.extra_inputs.encode(facts)
    seen = hashlib.sha256()

    def read(files: list[Path]) -> NDArray[np.uint8]:
        pixels = read_images(files, preparation.size, preparation.views)
        seen.update(pixels.data)
        return pixels.reshape(len(files), preparation.views, *pixels.shape[1:])

    batch = max(1, BATCH // preparation.views)
    probabilities = predict(partial(answer_images, model), list(rows["file"]), read, batch, extra)
    if card.data.get("test_pixels") != seen.hexdigest():
        raise DataError(
            f"models/{name} was made for other test images than those in {tree}, though their labels and parts are the "
            "same. Make it again with `dvc repro`."
        )
    scheme = card.labels[task]
    outcome = make_outcome(rows["target"].to_numpy(), probabilities, card.classes, card.threshold, scheme.positive)
    cases, draws = rows["case"].to_numpy(str), params.evaluate.bootstrap
    details = {
        "task": task,
        "protocol": protocol,
        "synthetic": card.synthetic,
        "classes_not_in_training": [c for i, c in enumerate(card.classes) if i not in set(trained["target"])],
        **evaluate_outcome(outcome, cases, magnifications(rows), bootstrap=draws, seed=params.seed),
    }
    draw(outcome, scheme, details, root / "plots" / name / "test")
    write_csv(root / "data/predictions" / f"{name}.csv", prediction_table(rows, outcome))
    write_json(root / "metrics" / name / "details.json", details)
    short = summary(details, params.evaluate.digits)
    write_json(root / "metrics" / name / "test.json", short)
    print(f"evaluate {name}: macro-F1 {short['macro_f1']} on {len(rows)} test images -> metrics/{name}/test.json")


def draw(outcome: Outcome, scheme: SchemeTask, details: dict[str, Any], folder: Path) -> None:
    """Write the tables that DVC draws and the pictures that a person opens."""
    about = About(scheme, **{key: details[key] for key in ("task", "protocol", "images", "cases", "synthetic")})
    by_magnification = magnification_table(details)
    with atomic_dir(folder) as new:
        write_csv(new / "confusion.csv", confusion_table(outcome))
        save(plot_confusion(outcome, about), new / "confusion.png")
        for kind in ("roc", "pr"):
            curves = curve_table(outcome, kind)
            write_csv(new / f"{kind}.csv", curves)
            save(plot_curves(curves, kind, details, about), new / f"{kind}.png")
        write_csv(new / "magnification.csv", by_magnification)
        save(
            plot_magnifications(by_magnification, details["image_level"]["macro_f1"], about), new / "magnification.png"
        )


def main() -> None:
    """Read parameters and arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--protocol", required=True)
    chosen = parser.parse_args()
    evaluate(read_params(), chosen.task, chosen.protocol)


if __name__ == "__main__":
    run_stage(main)
