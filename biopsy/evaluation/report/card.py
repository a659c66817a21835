"""The card of each model, for a registry such as Hugging Face: a YAML head, and below it what a reader must know."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from biopsy.core.encoders import terms_of
from biopsy.core.params import Params
from biopsy.evaluation.report import choices, words
from biopsy.evaluation.report.flow import UNITS, split_row
from biopsy.evaluation.report.results import Result, Run
from biopsy.evaluation.report.sets import prediction_sets
from biopsy.evaluation.report.template import template
from biopsy.networks.model_file import NOTICE

FIGURES = {  # our name: how a person calls it, and the metric's name on Hugging Face
    "macro_f1": ("macro-F1", "f1"),
    "balanced_accuracy": ("balanced accuracy", "balanced_accuracy"),
    "accuracy": ("accuracy", "accuracy"),
    "roc_auc": ("ROC-AUC", "roc_auc"),
    "sensitivity": ("sensitivity", "recall"),
    "specificity": ("specificity", "specificity"),
}
LEVELS = {"image_level": "intervals", "case_level": "case_intervals"}


def model_cards(run: Run) -> dict[str, str]:
    """Write the card of each model that has been tested, by its name, `<task>-<protocol>`."""
    source = str(run.ingest.get("source", "not known"))
    return {result.job.name: model_card(result, run.splits, run.params, source) for result in run.results}


def model_card(result: Result, splits: Mapping[str, Any], params: Params, source: str) -> str:
    """Write the card of one model, or of the models of all folds, in Markdown; every figure comes from the run."""
    details, split = result.details, splits.get(result.job.protocol, {})
    folds = [model["fold"] for model in details["models"] if model.get("fold")]
    head = yaml.safe_dump(_head(result, params, source), sort_keys=False, allow_unicode=True, width=1000)
    text = template("card.md.j2", finalize=_plain).render(
        notice=NOTICE,
        synthetic=words.SYNTHETIC if details["synthetic"] else None,
        name=result.job.name,
        task=result.scheme,
        says=words.verdict(result, splits, best=False),
        details=details,
        calibrated=result.calibrated,
        parts=split_row(result.job.protocol, split)["parts"],
        units=UNITS,
        protocol=result.job.protocol,
        protocol_says=split.get("says"),
        source=source,
        figures=list(_figures(details)),
        choices=[*choices.abstention(details, result.title)["says"], *prediction_sets(details)["says"]],
        limits=words.limits([result], splits),
        params=params,
        terms=terms_of(params.model.encoder.name),
        folder=f"models/{result.job.name}" + (f"/{folds[0]}" if folds else ""),
        folds=len(folds),
    )
    return f"---\n{head}---\n\n{text.strip()}\n"


def _head(result: Result, params: Params, source: str) -> dict[str, Any]:
    """Fill in the head that Hugging Face reads (`model-index`); a null figure is left out."""
    details, model = result.details, params.model
    own = details["synthetic"] and model.weights == "none"
    licence = {"license": "apache-2.0"} if own else {"license": "other", "license_name": "chosen-by-the-publisher"}
    metrics = [
        {"type": kind, "name": f"{name} of {level}, {interval.split(':')[0]}", "value": value}
        for level, name, kind, value, interval in _figures(details)
        if value is not None
    ]
    return {
        **licence,
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["histology", "image-classification", "research-use-only", *(["synthetic"] * details["synthetic"])],
        "metrics": sorted({metric["type"] for metric in metrics}),
        "model-index": [
            {
                "name": result.job.name,
                "results": [
                    {
                        "task": {
                            "type": "image-classification",
                            "name": f"{result.job.task}: {', '.join(details['classes'])}",
                        },
                        "dataset": {
                            "type": params.data.source,
                            "name": source,
                            "config": f"protocol {result.job.protocol}",
                            "split": "test",
                        },
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _figures(details: Mapping[str, Any]) -> Iterator[tuple[str, str, str, float | None, str]]:
    """Yield level, name, metric, value and the interval in words of each figure that the task has."""
    for level, intervals in LEVELS.items():
        for key, (name, kind) in FIGURES.items():
            if key not in details[level]:
                continue
            ends, found = details[intervals].get(key), details[intervals]
            why = found.get("reasons", {}).get(key, "not known")
            known = f"95 % interval {words.interval(ends)}" if ends else f"no interval: {why}"
            yield f"{level.removesuffix('_level')}s", name, kind, details[level][key], known


def _plain(value: Any) -> Any:
    """Write a text so that Markdown shows it as it is, in a table too: names of classes may hold anything."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
