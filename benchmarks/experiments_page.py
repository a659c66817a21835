"""What `experiments.py` writes: the page docs/experiments.md, and the line 'Measured' of each preset."""

from dataclasses import dataclass

import numpy as np
from honest import FOLDS, TASKS, Floats, Ints
from numpy.typing import NDArray

from biopsy.evaluation.comparison import Difference, paired_difference
from biopsy.evaluation.intervals import Interval, figure_intervals
from biopsy.evaluation.jackknife import leave_one_out

PROBE, LINEAR = "recommended", "linear head"
SECTIONS = {  # by what a preset changes: the title, and the base that it is compared with
    "images": ("What the network sees", PROBE),
    "head": ("How a linear head is trained", LINEAR),
    "network": ("When the network runs in every epoch", LINEAR),
}
FIGURES = {"binary": "macro_f1", "multiclass": "accuracy"}  # adenosis has one case: no interval of eight classes' F1
SAME = "same answers"

NAMES = {"binary": "binary", "multiclass": "eight types"}
ABOUT = """# Which experiment does what?

Each row is a preset on top of the [recommended](training.md#frozen-backbones) one, tested by
`python benchmarks/experiments.py` on {images} real BreakHis images of {cases} cases in {folds}-fold cross-validation;
by case, means over {draws} draws of the folds. Rows give the difference to the first, its 95 % interval over cases, and
a verdict: better or worse if the interval excludes 0. The figure is macro-F1 (binary) or accuracy (eight types, where
adenosis has one case). One row in twenty gets a verdict by chance; a true difference of {smallest:.2f} is detected
four times in five. `plain`, `grayscale` and `laplacian` normalise no stain. A linear head trains for 30 epochs at a
constant rate; nothing is tuned. By image, heads are measured where the report has a finding.
"""


NETWORK = (
    "Each of an image's six tiles is trained on as an image, for five epochs at a constant rate (`baseline_cnn`: its\n"
    "one square, for 30), with one draw of the folds. `mixup` allows no class weights."
)


@dataclass(frozen=True)
class Answered:
    """The images' classes by task, their cases, and the answers of each preset by '<task>-<protocol>'.

    Answers are (draws, n, classes).
    """

    targets: dict[str, Ints]
    cases: NDArray[np.str_]
    answers: dict[str, dict[str, Floats]]


def base_cells(images: Answered, answers: dict[str, Floats]) -> list[str]:
    """Write the figures of a base: by case with interval, then by image."""
    cells = []
    for model, given in answers.items():
        task, _, protocol = model.partition("-")
        values, spans = list[float](), list[list[float]]()
        for draw in given:
            asked = images.targets[task], draw, images.cases, TASKS[task]
            values.append(leave_one_out(*asked, 0.5)[1][FIGURES[task]].estimate)
            span = figure_intervals(*asked)[FIGURES[task]]
            assert isinstance(span, Interval), span.reason
            spans.append(span.ends)
        low, high = np.mean(spans, axis=0)
        cells += [f"{np.mean(values):.2f}", *([f"{low:.2f}..{high:.2f}"] if protocol == "case" else []), "base"]
    return cells


def differences(
    images: Answered, base: dict[str, Floats], answers: dict[str, Floats]
) -> dict[str, tuple[Difference, str]]:
    """Compare a preset with its base, and give a verdict: of what both were asked."""
    found = {}
    for model in (model for model in base if model in answers):
        task, one, other = model.partition("-")[0], base[model], answers[model]
        figures = paired_difference(images.targets[task], one, other, images.cases, TASKS[task])
        difference = figures[FIGURES[task]]
        assert isinstance(difference, Difference), difference.reason
        verdict = ("better" if difference.estimate > 0 else "worse") if difference.shown else "unclear"
        found[model] = difference, SAME if (one.argmax(-1) == other.argmax(-1)).all() else verdict
    return found


def cells_of(found: dict[str, tuple[Difference, str]], base: dict[str, Floats]) -> list[str]:
    """Write the cells of a row: dashes where the preset was not asked."""
    cells = []
    for model in base:
        by_case = model.endswith("-case")
        if model not in found:
            cells += ["-"] * (2 + by_case)
            continue
        difference, verdict = found[model]
        span = f"{difference.interval.low:+.2f}..{difference.interval.high:+.2f}"
        cells += [f"{round(difference.estimate, 2) + 0.0:+.2f}", *([span] if by_case else []), verdict]
    return cells


def report(images: Answered, kinds: dict[str, str], left: dict[str, list[str]]) -> tuple[str, dict[str, str]]:
    """Write docs/experiments.md, and for each preset what its head says.

    Parameters
    ----------
    images
        And what was answered about them.
    kinds
        The section of each preset, a key of `SECTIONS`.
    left
        The presets that were not measured, by why.
    """
    answers = images.answers
    sections, said, smallest = list[str](), dict[str, str](), list[float]()
    for section, (title, base) in SECTIONS.items():
        shown = [name for name, kind in kinds.items() if kind == section and name not in (PROBE, LINEAR)]
        if section == "network" and not shown:
            continue
        asked = {model for name in shown or [base] for model in answers[name]} & set(answers[base])
        models = {model: answers[base][model] for model in sorted(asked, key=lambda m: ("image" in m, m))}
        if section == "network":  # of one draw
            models = {model: given[:1] for model, given in models.items()}
        heads = [
            f"{NAMES[task]}, by {protocol}|" + ("interval|" if protocol == "case" else "") + "verdict"
            for task, _, protocol in (model.partition("-") for model in models)
        ]
        sections += [f"## {title}", "", f"|experiment|{'|'.join(heads)}|"]
        sections += ["|---" * (sections[-1].count("|") - 1) + "|", f"|`{base}`|{'|'.join(base_cells(images, models))}|"]
        for name in shown:
            found = differences(images, models, answers[name])
            sections.append(f"|`{name}`|{'|'.join(cells_of(found, models))}|")
            smallest.append(found["binary-case"][0].smallest)
            told = [
                f"{model} {round(difference.estimate, 2) + 0.0:+.2f} ({verdict})"
                for model, (difference, verdict) in found.items()
            ]
            said[name] = f"against `{base}`, {', '.join(told)}; docs/experiments.md"
        sections += ["", NETWORK, ""] if section == "network" else [""]
    sections += ["## Not run", ""]
    sections += [f"- {why}: {', '.join(f'`{name}`' for name in names)}." for why, names in left.items()]
    said |= {name: "not on this base; docs/experiments.md says why" for names in left.values() for name in names}
    about = ABOUT.format(
        images=len(images.cases), cases=len(set(images.cases)), folds=FOLDS, draws=len(answers[PROBE]["binary-case"]),
        smallest=np.median(smallest),
    )  # fmt: skip
    return "\n".join([about, *sections]) + "\n", said
