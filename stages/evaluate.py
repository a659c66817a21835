"""Test one model, or those of all folds: `python stages/evaluate.py --task binary --protocol case`."""

from pathlib import Path

import pandas as pd

from biopsy.core.cost import Meter
from biopsy.core.files import write_csv, write_json
from biopsy.core.job import Job
from biopsy.core.layout import PREDICTIONS
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage, stage_arguments
from biopsy.evaluation.answers import answer, pool
from biopsy.evaluation.details import about_model, about_probabilities
from biopsy.evaluation.drawing import draw
from biopsy.evaluation.figures import evaluate_outcome, short_figures, summary
from biopsy.evaluation.outcome import settle
from biopsy.evaluation.pooling import average, average_details, describe_folds
from biopsy.evaluation.predictions import magnifications, prediction_table
from biopsy.networks.backend import gpu_names


def evaluate(params: Params, task: str, protocol: str, root: Path = Path()) -> None:
    """Predict test and validation part; write figures, tables, pictures and the predictions below `root`.

    Of a cross-validation each fold is predicted by the model that has not seen it, and the answers are pooled.
    """
    job, meter = Job(task, protocol, root=root), Meter(root)
    models = [answer(each, look=each == job.each[0]) for each in job.each]
    card, digits = models[0].card, params.evaluate.digits
    test, val = ([(each.job, each.parts[part]) for each in models] for part in ("test", "val"))
    tests, vals = pool(test), pool(val)
    unseen = {name for each in models for name in each.unseen}
    each_repeat = [evaluate_outcome(a.outcome, a.cases, magnifications(a.rows)) for a in tests]
    details = {
        "task": task,
        "protocol": protocol,
        "synthetic": card.synthetic,
        "classes_not_in_training": [name for name in card.classes if name in unseen],
        **average_details(each_repeat),
        **settle(average([about_probabilities(t, v, params.evaluate) for t, v in zip(tests, vals, strict=True)])),
        "models": [about_model(each.job, each.card) for each in models],
    }
    if job.each != [job]:
        cases = {each.fold.name: (a.outcome, a.cases) for each, a in test if each.fold}
        details["folds"] = describe_folds(cases)
    draw(tests[0], card, details, job.plots / "test")
    for answers, ending in ((tests, ""), (vals, "-val")):
        tables = [prediction_table(a.rows, a.outcome) for a in answers]
        write_csv(root / PREDICTIONS / f"{job.name}{ending}.csv", pd.concat(tables, ignore_index=True))
    if (looks := models[0].appearance) is not None:
        write_csv(root / PREDICTIONS / f"{job.name}-images.csv", looks)
    shown = average([short_figures(a.outcome) for a in vals])
    write_json(job.metrics / "val.json", {k: None if v is None else round(v, digits) for k, v in shown.items()})
    write_json(job.metrics / "details.json", details)
    short = summary(details, digits)
    write_json(job.metrics / "test.json", short)
    meter.end("evaluate", job.name, [each.card.model_sha256 for each in models], gpu_names())
    n = len(tests[0].rows)
    print(f"evaluate {job.name}: macro-F1 {short['macro_f1']} on {n} test images -> {job.metrics}/test.json")


def main() -> None:
    """Read parameters and arguments."""
    chosen = stage_arguments(__doc__, "task", "protocol")
    evaluate(read_params(), chosen.task, chosen.protocol)


if __name__ == "__main__":
    run_stage(main)
