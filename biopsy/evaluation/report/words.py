"""The report's verdict and its limits, in plain words."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biopsy.core.params import Params
from biopsy.core.protocol import parse_protocol
from biopsy.core.text import count
from biopsy.evaluation.outcome import Outcome
from biopsy.networks.temperature import BOUNDS

if TYPE_CHECKING:
    from biopsy.evaluation.report.results import Result

LONGEST = 120  # letters of a parameter's value
SYNTHETIC = (
    "Synthetic sample. These images were drawn by a program. The figures show that the pipeline works and say nothing "
    "about tissue."
)
UNITS = {"cases": "case", "slides": "slide", "pixels": "identical image"}
FEW_CASES = 30  # below, an interval is so wide that few questions can be answered


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def cut(threshold: float) -> str:
    """Write a threshold on a probability in three digits; in more, or in full, where these would read as 0 or 1."""
    written = (f"{threshold:.{digits}f}" for digits in (3, 4, 5, 6))
    return next((text for text in written if 0 < float(text) < 1), f"{threshold:g}")


def named(classes: Mapping[str, str]) -> list[str]:
    """Write each class in words, with its short name if that differs, as tables use it: 'ductal carcinoma (DC)'."""
    return [word if word == name else f"{word} ({name})" for name, word in classes.items()]


def interval(ends: Sequence[float] | None) -> str:
    """Write '0.609 to 1.000'; a dash where there is none."""
    return "-" if not ends else f"{number(ends[0])} to {number(ends[1])}"


def leak(split: Mapping[str, Any]) -> str:
    """Say whether test images come from cases that training or validation has seen: 'none', 'some' or 'unknown'."""
    seen = split.get("test_images_seen") or {}
    if any(seen.get(unit) for unit in UNITS) or _of_validation(split):
        return "some"
    return "none" if seen.get("cases") == 0 or (seen.get("cases") is None and seen.get("slides") == 0) else "unknown"


def leak_says(split: Mapping[str, Any]) -> str | None:
    """Say in a clause what the test part shares with training, or else with validation; None: not known."""
    seen = split.get("test_images_seen") or {}
    if any(seen.get(unit) for unit in UNITS) or not (shared := _of_validation(split)):
        return split.get("says")
    return (
        f"validation and test share {shared}, and the model was chosen or calibrated by validation, or learnt from it"
    )


def _of_validation(split: Mapping[str, Any]) -> str:
    """Count what validation and test share, '3 cases'; empty where that is nothing."""
    shared = split.get("shared") or {}
    found = {word: (shared.get(unit) or {}).get("val_test") for unit, word in UNITS.items()}
    return next((count(n, word) for word, n in found.items() if n), "")


def trust(result: "Result", splits: Mapping[str, Any]) -> tuple[int, bool, int]:
    """Rank a result by what it says about the next patient, the lowest first: no leak, then the most test cases.

    Where it is not known what was seen, a split by image comes last.
    """
    kind, unit = leak(splits.get(result.job.protocol, {})), parse_protocol(result.job.protocol).unit
    return ("none", "unknown", "some").index(kind), unit == "image", -(result.details["cases"] or 0)


def headline(results: "Sequence[Result]", splits: Mapping[str, Any]) -> "Result":
    """Choose the result that says most about the next patient; of equal ones that with the most images."""
    return min(results, key=lambda result: (*trust(result, splits), -result.details["images"]))


def verdict(result: "Result", splits: Mapping[str, Any], best: bool = True) -> list[str]:
    """Say what a result means, one sentence an item, the figure first; `best`: it is the best-founded of its task."""
    details, split = result.details, splits.get(result.job.protocol, {})
    kind = leak(split)
    cases = count(details["cases"], "case") if details["cases"] is not None else "an unknown number of cases"
    of = f"{count(details['images'], 'test image')} of {cases}, protocol {result.job.protocol}"
    sentences = [*figure_says(details, of), *lacks_says(details, result.test.outcome)]
    says = leak_says(split)
    if kind == "some":
        sentences.append(f"This figure is too high for new patients: {says}.")
        sentences += ["No honest protocol has a result for this task."] if best else []
    elif kind == "unknown":
        sentences.append("Whether test cases were seen in training is not known, so the figure may be too high.")
    else:
        sentences.append(f"No test image shares a case with training: {says}.")
    area = details["intervals"].get("roc_auc")
    if area and area[0] <= 0.5:
        sentences.append("The interval of ROC-AUC reaches 0.5: these data do not show that the model beats chance.")
    right, k = details["cases_right"], len(details["classes"])
    if right and right["interval"][0] <= 1 / k and not (area or details["intervals"]["macro_f1"]):
        sentences.append(
            f"Guessing predicts 1 of {k} cases correctly, a share within that interval: these data do not show that "
            "the model beats chance."
        )
    return sentences


def figure_says(details: Mapping[str, Any], of: str) -> list[str]:
    """Say the main figure, its interval or why there is none, and the cases predicted correctly.

    Parameters
    ----------
    details
        Of `evaluate_outcome`.
    of
        On what, such as '40 test images of 9 cases'.
    """
    macro_f1, ends = details["image_level"]["macro_f1"], details["intervals"]["macro_f1"]
    sure = f"95 % interval {interval(ends)}" if ends else "no interval can be given"
    guessed = guessing(details)
    sentences = [
        f"Macro-F1 {number(macro_f1)} ({sure}) on {of}. 1 is perfect; guessing among {len(details['classes'])} classes "
        f"gives about {guessed:.2f}."
    ]
    if macro_f1 <= guessed:
        sentences.append("That is no better than guessing.")
    if not ends:
        sentences.append(f"Why no interval: {details['intervals'].get('reasons', {}).get('macro_f1', 'not known')}.")
    right = details["cases_right"]
    if right:
        repeats = (details.get("repeats") or {}).get("count")
        mean, kind = (f" on average over {repeats} repeats", "mean of their exact") if repeats else ("", "exact")
        sentences.append(
            f"{right['right']:g} of {count(right['of'], 'case')} predicted correctly{mean}, by the mean probability of "
            f"their images ({kind} 95 % interval of the share: {interval(right['interval'])})."
        )
        most, name = max((row.get("cases") or 0, name) for name, row in details["per_class"].items())
        beaten = ", which that interval does not exclude" if most / right["of"] >= right["interval"][0] else ""
        beaten = ", more than the model" if most > right["right"] else beaten
        sentences.append(f"Predicting {name} every time would be right for {most:g} of {right['of']:g}{beaten}.")
    return sentences


def lacks_says(details: Mapping[str, Any], outcome: Outcome) -> list[str]:
    """Say where all answers are one class, and which classes are not tested, so that a figure means less than it seems.

    Parameters
    ----------
    details
        Of `evaluate_outcome`.
    outcome
        The answers behind them.
    """
    found, called = [], np.unique(outcome.predicted)
    if len(called) == 1:
        same = len(outcome.truth) > 1 and not np.ptp(outcome.probabilities.round(6), axis=0).any()
        equal = ", with the same probabilities: it does not look at them" if same else ""
        found.append(f"The model calls every image {outcome.classes[called[0]]}{equal}.")
    if absent := details["classes_not_in_test"]:
        found.append(
            f"No image of {', '.join(absent)} is tested: nothing is shown of {'it' if len(absent) == 1 else 'them'}, "
            "and macro-F1 is the mean over the other classes."
        )
    return found


def guessing(details: Mapping[str, Any]) -> float:
    """Compute the macro-F1 of answers that name each class equally often, at random, on these test images."""
    classes = [row["support"] for row in details["per_class"].values()]
    tested, called = [n / sum(classes) for n in classes if n], 1 / len(classes)
    return sum(2 * share * called / (share + called) for share in tested) / len(tested)


def chosen_by_validation(params: Params) -> str:
    """Say what the validation figure is, or why it may be too high; empty where it is like any other."""
    if params.model.head.kind == "probe":
        again = "The validation figure is that of the model before it was fitted once more with the validation images."
        return again if params.model.probe.refit else ""
    return (
        "" if params.train.monitor == "none" else "Validation chose the epoch, so its figure may be too high as well."
    )


def limits(results: "Sequence[Result]", splits: Mapping[str, Any]) -> list[str]:
    """List what the report does not show."""
    found = [SYNTHETIC] if any(result.details["synthetic"] for result in results) else []
    found += [
        "That a model helps anybody. It was compared with labels, not with pathologists, and never used in a clinic.",
        "How a model does on images of another laboratory, scanner or stain: all images come from one set.",
    ]
    for result in results:
        details, name = result.details, result.title
        if leak(splits.get(result.job.protocol, {})) == "some":
            found.append(
                f"{name}: what to expect for new patients. Its test shares slides or cases with training or validation."
            )
        if details["cases"] is not None and details["cases"] < FEW_CASES:
            found.append(
                f"{name}: small differences. {count(details['cases'], 'test case')} cannot tell close models apart."
            )
        if details.get("classes_not_in_test"):
            found.append(f"{name}: anything about {', '.join(details['classes_not_in_test'])}, which is not tested.")
        if details.get("classes_not_in_training"):
            unseen = ", ".join(details["classes_not_in_training"])
            found.append(
                f"{name}: how well {unseen} can be recognised. The model that tests such images had none in training."
            )
        fits = [model["reason"] for model in details["models"] if "reason" in model]
        if fits:
            of = f"{len(fits)} of {len(details['models'])} models" if len(details["models"]) > 1 else "the model"
            found.append(f"{name}: calibrated probabilities; {of} kept temperature 1 ({fits[0]}).")
        flat = sum(model["temperature"] >= BOUNDS[1] for model in details["models"])
        if flat:
            found.append(
                f"{name}: useful probabilities. The temperature of {count(flat, 'model')} went to the largest value, "
                f"{BOUNDS[1]:g}, because on images that it had not seen the model was hardly better than guessing."
            )
        if parse_protocol(result.job.protocol).folds and "operating_point" in details:
            found.append(
                f"{name}: an independent threshold. Each image is validation image of one fold and test image of "
                "another, so its label is used in both."
            )
    return found


def short(value: Any) -> str:
    """Write a parameter, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
