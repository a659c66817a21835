"""The report's verdict and its limits, in plain words."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biopsy.core.protocol import parse_protocol
from biopsy.core.text import count
from biopsy.networks.temperature import BOUNDS

if TYPE_CHECKING:
    from biopsy.evaluation.report.results import Result

LONGEST = 120  # letters of a parameter's value
SYNTHETIC = (
    "Synthetic sample. These images were drawn by a program. The figures show that the pipeline works and say nothing "
    "about tissue."
)
FEW_CASES = 30  # below, an interval is so wide that few questions can be answered


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def named(classes: Mapping[str, str]) -> list[str]:
    """Write each class in words, with its short name if that differs, as tables use it: 'ductal carcinoma (DC)'."""
    return [word if word == name else f"{word} ({name})" for name, word in classes.items()]


def interval(ends: Sequence[float] | None) -> str:
    """Write '0.609 to 1.000'; a dash where there is none."""
    return "-" if not ends else f"{number(ends[0])} to {number(ends[1])}"


def leak(split: Mapping[str, Any]) -> str:
    """Say whether the test images come from cases that training has seen: 'none', 'some' or 'unknown'."""
    seen = split.get("test_images_seen") or {}
    units = [seen.get(unit) for unit in ("cases", "slides", "pixels")]
    if any(units):
        return "some"
    return "none" if seen.get("cases") == 0 or (seen.get("cases") is None and seen.get("slides") == 0) else "unknown"


def trust(result: "Result", splits: Mapping[str, Any]) -> tuple[int, int]:
    """Rank a result by what it says about the next patient, the lowest first: no leak, then the most test cases."""
    kind = leak(splits.get(result.job.protocol, {}))
    return ("none", "unknown", "some").index(kind), -(result.details["cases"] or 0)


def headline(results: "Sequence[Result]", splits: Mapping[str, Any]) -> "Result":
    """Choose the result that says most about the next patient; of equal ones that with the most images."""
    return min(results, key=lambda result: (*trust(result, splits), -result.details["images"]))


def verdict(result: "Result", splits: Mapping[str, Any], best: bool = True) -> list[str]:
    """Say what a result means, one sentence an item, the figure first; `best`: it is the best-founded of its task."""
    details, split = result.details, splits.get(result.job.protocol, {})
    kind = leak(split)
    cases = count(details["cases"], "case") if details["cases"] is not None else "an unknown number of cases"
    of = f"{count(details['images'], 'test image')} of {cases}, protocol {result.job.protocol}"
    sentences = figure_says(details, of)
    says = split.get("says")
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
    sentences = [
        f"Macro-F1 {number(macro_f1)} ({sure}) on {of}. 1 is perfect; guessing among {len(details['classes'])} classes "
        f"gives about {1 / len(details['classes']):.2f}."
    ]
    if macro_f1 <= 1 / len(details["classes"]):
        sentences.append("That is no better than guessing.")
    if not ends:
        sentences.append(f"Why no interval: {details['intervals'].get('reasons', {}).get('macro_f1', 'not known')}.")
    right = details["cases_right"]
    if right:
        sentences.append(
            f"{right['right']:g} of {count(right['of'], 'case')} predicted correctly, by the mean probability of their "
            f"images (exact 95 % interval of the share: {interval(right['interval'])})."
        )
    return sentences


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
            found.append(f"{name}: what to expect for new patients. Its test shares slides or cases with training.")
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
                f"{BOUNDS[1]:g}, because on validation the model was hardly better than guessing."
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
