"""A project that stands right before `report`: what the stages before it write, made up."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from biopsy.core.files import write_csv, write_json
from biopsy.core.params import Params
from biopsy.core.protocol import parse_protocol
from biopsy.evaluation.abstention import describe_abstention
from biopsy.evaluation.appearance import LOOKS
from biopsy.evaluation.calibration import describe_calibration
from biopsy.evaluation.conformal import describe_sets
from biopsy.evaluation.decision import decision_curve
from biopsy.evaluation.figures import evaluate_outcome
from biopsy.evaluation.operating import operating_points
from biopsy.evaluation.outcome import make_outcome, settle
from biopsy.evaluation.predictions import prediction_table
from biopsy.tables.labels.scheme import LabelScheme, write_scheme
from schemes import params as make_params

PER_CASE, HASH = 4, "0" * 64
PARTS = {part: {"images": 40, "slides": 10, "cases": 10} for part in ("train", "val", "test")}


def write_project(
    root: Path, classes: list[str], protocols: list[str], cases: int = 12, leak: int = 0, positives: int = 1
) -> Params:
    """Write what the stages before the report write, of one task, 'tissue'; the model is right in 3 of 4 images."""
    labels = {
        "name": "test",
        "tasks": {"tissue": {"column": None, "classes": classes, "positive": classes[len(classes) - positives :]}},
    }
    params = make_params(labels=labels, tasks=["tissue"], protocols=protocols)
    scheme = LabelScheme.of(params.labels)
    write_scheme(root / "models/labels.json", scheme)
    rng, n = np.random.default_rng(0), cases * PER_CASE
    truth = np.repeat(np.arange(cases) % len(classes), PER_CASE)
    rows = pd.DataFrame(
        {
            "image_id": [f"i{i:03d}" for i in range(n)],
            "case": [f"c{i // PER_CASE:02d}" for i in range(n)],
            "slide": [f"14-{i // PER_CASE:02d}<script>" for i in range(n)],
            "magnification": ["40", "100"] * (n // 2),
        }
    )
    known = rows.assign(path=rows["image_id"] + ".png", tissue=np.array(classes)[truth])
    write_csv(root / "data/interim/labels.csv", known)
    for image_id in rows["image_id"]:
        (root / "data/raw/images").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (230, 350, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"data/raw/images/{image_id}.png", compress_level=0)
    write_json(root / "metrics/ingest.json", {"source": "a source", "dropped": {"count": 1, "by_reason": {"dup": 1}}})
    write_json(root / "metrics/impute.json", {"images": n, "labels": {"tissue": dict.fromkeys(classes, 1)}})
    counts = {unit: {"train_val": 0, "train_test": leak, "val_test": 0} for unit in ("cases", "slides", "pixels")}
    entry = {"says": f"{leak} of {n} test images come from slides seen in training", "parts": PARTS, "shared": counts}
    entry["test_images_seen"] = {"cases": leak, "slides": leak, "pixels": 0}
    write_json(root / "metrics/split.json", dict.fromkeys(protocols, entry))
    for protocol in protocols:
        folds = [fold.name for fold in parse_protocol(protocol).folds]
        tables, wrong = [], rng.random(n) < 0.25
        write_csv(root / "data/predictions" / f"tissue-{protocol}-images.csv", made_up_appearance(rows, truth))
        given = rng.dirichlet(np.ones(len(classes)), n)
        given[np.arange(n), (truth + wrong) % len(classes)] += np.where(wrong, 1, 4)
        task = scheme["tissue"]
        outcome = make_outcome(truth, given / given.sum(1, keepdims=True), task.names, 0.5, task.positive)
        for repeat in sorted({name.split("-")[0] for name in folds}) or [""]:
            of = [name for name in folds if name.startswith(f"{repeat}-")]
            part = rows.assign(fold=[of[i % len(of)] for i in range(n)]) if of else rows
            tables.append(prediction_table(part, outcome))
        folder = root / "metrics" / f"tissue-{protocol}"
        write_csv(root / "data/predictions" / f"tissue-{protocol}.csv", pd.concat(tables))
        known = rows["case"].to_numpy(str)
        model = {"sha256": HASH, "data": {"labels": HASH, "split": HASH}, "temperature": 2.0, "cases": 12}
        details = {
            "task": "tissue", "protocol": protocol, "synthetic": False, "classes_not_in_training": [],
            **evaluate_outcome(outcome, known, rows["magnification"].to_numpy(str)),
            **settle({"calibration": describe_calibration(outcome, np.full(n, 2.0))}),
            "operating_point": operating_points((outcome, known), (outcome, known), 0.95),
            "abstention": describe_abstention((outcome, known), (outcome, known), 0.2),
            "sets": describe_sets((outcome, known), (outcome, known)),
            "decision": decision_curve(outcome, known),
            "models": [{**model, **({"fold": name} if folds else {})} for name in folds or [""]],
        }  # fmt: skip
        if len(tables) > 1:
            details["repeats"] = {"count": len(tables), "sd": {}}
        write_json(folder / "details.json", details)
        for name in ("test", "val", "train"):
            write_json(folder / f"{name}.json", {"macro_f1": 0.5})
    return params


def made_up_appearance(rows: pd.DataFrame, truth: np.ndarray) -> pd.DataFrame:
    """Looks that tell nothing, and features that know the slide; half of the images are of the training part."""
    rng, n = np.random.default_rng(1), len(rows)
    looks = {name: rng.uniform(9, 11, n).round(4) for name in LOOKS}
    features = rng.normal(0, 5, (n // PER_CASE, 5)).repeat(PER_CASE, axis=0) + rng.normal(0, 0.5, (n, 5))
    columns = {f"f{i:02d}": features[:, i].round(4) for i in range(5)}
    part = np.where(truth % 2, "train", "test")
    return pd.DataFrame({"image_id": rows["image_id"], "part": part, **looks, **columns})
