"""Two checklists for authors, TRIPOD+AI and CLAIM 2024: each item filled from the run, or left to the author."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from biopsy.core.errors import some
from biopsy.core.params import Params
from biopsy.core.protocol import parse_protocol
from biopsy.core.text import count, isolated
from biopsy.evaluation.report import words
from biopsy.evaluation.report.flow import data_flow, split_row
from biopsy.evaluation.report.results import Result, Run
from biopsy.networks.model_file import NOTICE

FILE = Path(__file__).with_name("checklists.yaml")
AUTHOR = "for the author"
LICENCE = "Apache-2.0"


def checklists(run: Run, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Fill in both checklists.

    Returns
    -------
    list of dict
        `name`, `source`, `items`: of each `item` (its number), `asks`, `run` (words, or None where the run does not
        know) and `author` (words, or None where nothing is left to do); and `filled`, how many have a `run`.
    """
    known = facts(run, results)
    lists = yaml.safe_load(FILE.read_text("utf-8"))
    for found in lists:
        for item in found["items"]:
            item["run"] = fill(item["run"], known) if "run" in item else None
            rest = item.get("author")
            item["author"] = f"{AUTHOR}: {rest}" if rest else None if item["run"] else AUTHOR
        found["filled"] = sum(item["run"] is not None for item in found["items"])
    return list(lists)


def fill(text: str, known: Mapping[str, str | None]) -> str | None:
    """Put facts into a text; None where one of them is not known."""
    names = [name for _, name, _, _ in string.Formatter().parse(text) if name]
    return None if any(known[name] is None for name in names) else text.format_map(known)


def facts(run: Run, results: Sequence[Result]) -> dict[str, str | None]:
    """Say in a sentence or two what the run knows of each subject; None where it does not."""
    return {
        "notice": NOTICE,
        "code": f"The program is under {LICENCE}; `biopsy report` prints the git revision of this report.",
        "software": "Keras 3, scikit-learn, NumPy and OpenCV under Python; requirements.txt pins every version.",
        "metrics": "Macro-F1, balanced accuracy, accuracy, ROC-AUC and, with positive classes, sensitivity and "
        "specificity, of images and of cases; ECE, Brier score and log loss; ROC, reliability, decision and "
        "risk-coverage curves.",
        "uncertainty": "95 % intervals over new cases, by leaving out one case after the other; exact ones "
        "(Clopper-Pearson) of shares of cases. `biopsy compare` gives paired differences.",
        **of_data(run, results),
        **of_parameters(run, list(dict.fromkeys(result.job.task for result in results))),
        **of_results(results),
    }


def of_data(run: Run, results: Sequence[Result]) -> dict[str, str | None]:
    """Say where the images come from, what was left out or filled, and how they were split."""
    flow, protocols = dict(data_flow(run)), run.params.protocols
    tasks = {name: run.scheme[name] for name in run.params.tasks if name in run.scheme.tasks}
    left = [f"{key}: {flow[key]}." for key in ("Images left out", "Without a label, left out") if key in flow]
    gaps, unlabelled = flow.get("Gaps filled from file names"), run.params.impute.unlabelled
    rest = "is left out" if unlabelled == "drop" else "stops the run"
    groups = " and by ".join(known_groups(results))
    beside = [f"Protocols {' and '.join(protocols)} side by side."] if len(protocols) > 1 else []
    levels = [f"protocol {name}: {_apart(run.splits.get(name, {}))}" for name in protocols]
    return {
        "tasks": "; ".join(f"{name} ({', '.join(task.words.values())})" for name, task in tasks.items()),
        "source": flow.get("Source"),
        "dropped": " ".join(left) or None,
        "filled": gaps and f"Gaps filled from file names: {gaps}. A row that has no label even then {rest}.",
        "counts": flow.get("Used") or None,
        "classes": " ".join(f"{key}: {value}." for key, value in flow.items() if key.startswith("Images by ")) or None,
        "outcome": "The label of each image is that of the table. Positive: "
        + "; ".join(f"{name} {', '.join(task.positive) or 'none'}" for name, task in tasks.items())
        + ".",
        "copies": "Equal pixels and near-copies are looked for and counted.",
        "split": " ".join(split_says(name, run.splits.get(name, {})) for name in protocols) if run.splits else None,
        "robustness": " ".join([*beside, *([f"Figures by {groups}."] if groups else [])]) or None,
        "clusters": f"Figures by {groups}." if groups else None,
        "failures": f'Under "Where it fails": by {groups}.' if groups else None,
        "disjoint": f"{'; '.join(levels).capitalize()}. Where the case is not known, the slide counts as one.",
    }


def known_groups(results: Sequence[Result]) -> list[str]:
    """Name those of slide and magnification that are known of tested images."""
    return [name for name in ("slide", "magnification") if any((r.test.rows[name] != "").any() for r in results)]


def _apart(split: Mapping[str, Any]) -> str:
    """Say whether any two parts share a case."""
    pairs = ((split.get("shared") or {}).get("cases") or {}).values()
    return "not known" if not pairs else "cases are in two parts" if any(pairs) else "no case is in two parts"


def split_says(name: str, split: Mapping[str, Any]) -> str:
    """Say how large the parts of a protocol are, and what they share."""
    row = split_row(name, split)
    sizes = [f"{part} {size['images']} images of {size['cases'] or '?'} cases" for part, size in row["parts"].items()]
    folds = f", {row['folds']} folds" if row["folds"] else ""
    says = row["says"] or "what they share is not known"
    return f"Protocol {name} (by {parse_protocol(name).unit}{folds}): {', '.join(sizes) or 'sizes not known'}; {says}."


def of_parameters(run: Run, tasks: Sequence[str]) -> dict[str, str | None]:
    """Say how images are prepared and how the models of these tasks are made."""
    params, resize = run.params, run.resize
    model, train = params.model, params.train
    stain = "no stain normalisation" if run.stain == "none" else f"stain by {run.stain}"
    inputs = "".join(f" and {name}" for name in model.extra_inputs)
    stop = train.early_stopping_patience
    training = (
        f"{train.optimizer}, learning rate {train.learning_rate:g} ({train.schedule.name}), batch {train.batch}, loss "
        f"{train.loss.name}, augmentation: {', '.join(params.augment.every) or 'none'}."
    )
    selection = f"The epoch that is best by {train.monitor} on the validation part"
    selection += "." if stop is None else f"; training stops after {stop} without a gain."
    if train.monitor == "none":
        selection = "The last epoch; validation chooses nothing."
    head = "at random"
    doubled = [task for task in tasks if params.augment.double_minority and task in params.augment.copies]
    imbalance = (
        f"Class weights: {train.class_weights}; sampling by {train.sampling}; minority doubled: "
        f"{f'for {some(doubled)}' if doubled else 'no'}."
    )
    if model.head.kind == "probe":
        layers = " and ".join(model.features.layers)
        training = f"A logistic regression on the backbone's features of {layers}, C of {model.probe.C}."
        if model.probe.layers == "averaged":
            training = f"{training[:-1]}; one for each layer, their logits averaged."
        if above := [name for name in tasks if model.probe.parent and params.labels.tasks[name].parent]:
            training += (
                f" For {some(above)}, the logits of the parent task's classes, from such a regression, are added."
            )
        selection = chosen_by_probe(params)
        head = "none, it is fitted at once"
        each = " and, within it, each case" if model.probe.weights == "case" else ""
        imbalance = f"Each class{each} weighs the same."
    return {
        "preparation": f"Each image: {resize.mode} to {resize.size} px, {resize.structure}, {stain}; the same in "
        "training, test and use.",
        "inputs": f"The pixels{inputs or ' alone'}.",
        "model": f"Backbone {model.backbone}, trainable: {model.trainable}; head {model.head.kind}.",
        "weights": f"Backbone: {'at random' if model.weights == 'none' else model.weights_name}; head: {head}. Seed "
        f"{params.seed}.",
        "training": f'{training} Seed {params.seed}; every parameter is under "Where these figures come from".',
        "selection": selection,
        "ensemble": "None: one model answers each image.",
        "imbalance": imbalance,
        "output": "A probability for each class, brought to the model's temperature; of two classes the second is "
        "called from the model's threshold on, of more the most probable one.",
    }


def chosen_by_probe(params: Params) -> str:
    """Say how the strength of a probe was chosen, and from what it has learnt."""
    probe = params.model.probe
    by = f"by a cross-validation of {probe.folds} folds inside the training part, where it has the cases for that"
    chosen = f"C {by}." if len(set(probe.C)) > 1 else f"None: C is {probe.C[0]:g}."
    again = " Then the model is fitted once more on training and validation part together." if probe.refit else ""
    return chosen + again


def of_results(results: Sequence[Result]) -> dict[str, str | None]:
    """Say what the results show; None of each where there are none."""
    said: dict[str, list[str]] = {
        key: [] for key in ("performance", "performed", "calibration", "operating", "wrong", "hashes")
    }
    for result in results:
        details, name = result.details, result.title
        cases = "cases not known" if details["cases"] is None else count(details["cases"], "case")
        of = f"{count(details['images'], 'test image')} of {cases}"
        ends = details["intervals"].get("macro_f1")
        sure = f"95 % interval {words.interval(ends)}" if ends else "no interval"
        said["performance"].append(
            f"{name}: macro-F1 {words.number(details['image_level']['macro_f1'])} ({sure}), {of}."
        )
        support = ", ".join(f"{isolated(key)} {row['support']:g}" for key, row in details["per_class"].items())
        said["performed"].append(f"{name}: {of} ({support}).")
        heat = ", ".join(f"{model['temperature']:g}" for model in details["models"])
        said["calibration"].append(f"{name}: temperature {heat}.")
        said["operating"] += operating(name, details["operating_point"])
        said["wrong"].append(
            f"{name}, {int((result.test.outcome.predicted != result.test.outcome.truth).sum())} wrong."
        )
        said["hashes"].append(f"{name}: {', '.join(model['sha256'][:16] for model in details['models'])}.")
    if said["hashes"]:
        said["hashes"].insert(0, "SHA-256 of model.keras, its first digits:")
    return {key: " ".join(sentences) or None for key, sentences in said.items()}


def operating(name: str, found: Mapping[str, Any]) -> list[str]:
    """Say what the operating point of cases, else of images, does on the test part; nothing where there is none."""
    for unit in ("case", "image"):
        point = found.get(unit)
        if point and not point.get("reason"):
            shares = ", ".join(
                f"{key} {words.number(point['test'][key].get('share'))} "
                f"({words.interval(point['test'][key].get('interval'))})"
                for key in ("sensitivity", "specificity")
            )
            return [f"{name}: {unit}s from {words.cut(point['threshold'])} on, chosen on validation: {shares}."]
    return []
