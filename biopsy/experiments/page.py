"""All experiments side by side: what `dvc exp show` knows, as a page that a person reads."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import yaml

from biopsy.core.errors import DataError, ParamsError, reason_of
from biopsy.core.text import count
from biopsy.experiments.kinds import with_kind
from biopsy.experiments.runs import BASELINE, WITH, Run, settings

COMMONEST = "always the commonest class"  # no experiment: what a score must beat
REPORT = re.compile(r"Report: (.*?)(?= (?:Source|Cost|Measured): | (?:dvc exp|biopsy) |$)")


@dataclass(frozen=True)
class Preset:
    """One file of conf/experiment/.

    Attributes
    ----------
    report
        What its head says the report found, after `# Report:`; empty where the report did not try it.
    changes
        Its parameters, `key=value`.
    """

    report: str
    changes: list[str]


def read_preset(path: Path) -> Preset:
    """Read the head and the differences of one preset. Raises `ParamsError` where it is no YAML of names and values."""
    try:
        text = path.read_text("utf-8")
        content = dict(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ParamsError(f"{path} is not a preset: {reason_of(error)}. Correct it.") from None
    head = [line[1:].strip() for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    report = found[1].strip() if (found := REPORT.search(" ".join(head))) else ""
    chosen = [
        f"{key.removeprefix('override /')}={value}"
        for entry in content.pop("defaults", [])
        if isinstance(entry, dict)
        for key, value in entry.items()
    ]
    content.pop("experiment", None)
    return Preset(report, chosen + settings(content))


def spread(values: Sequence[float | None], digits: int = 2, sign: str = "") -> str:
    """Write a mean with its range: `0.76 (0.70..0.81)`; a dash where there is nothing. Sign "+" writes every sign."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in (fmean(known), min(known), max(known)))
    return mean if len(known) == 1 else f"{mean} ({low}..{high})"


def mean(values: Sequence[float | None], digits: int = 2) -> str:
    """Write a mean without its range; a dash where there is nothing."""
    return spread(values, digits).split(" ")[0]


def by_preset(runs: list[Run]) -> dict[str, list[Run]]:
    """Group the runs that did not fail by preset, ordered by seed: the guess to beat, the baseline, the others.

    Raises
    ------
    DataError
        No experiment ended without an error.
    """
    found: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.preset != BASELINE, run.preset, run.seed)):
        if not run.error:
            found[run.preset].append(run)
    if not found and runs:
        raise DataError(f"no experiment here ended well. {runs[0].preset}, seed {runs[0].seed}: {runs[0].error}")
    if not found:
        raise DataError("DVC keeps no experiment here. Run some: `dvc exp run -S +experiment=<name>`.")
    guesses = [guess for run in found.get(BASELINE, []) if (guess := _commonest(run)).figures]
    return ({COMMONEST: guesses} if guesses else {}) | found


def models_of(runs: list[Run]) -> dict[str, list[str]]:
    """List the tasks that were run and the protocols of each: image first, then case, then others by name."""
    found: dict[str, set[str]] = defaultdict(set)
    for model in (model for run in runs for model in run.figures):
        task, _, protocol = model.partition("-")
        found[task].add(protocol)
    first = ["image", "case"]
    order = {p: (first.index(p) if p in first else len(first), p) for protocols in found.values() for p in protocols}
    return {task: sorted(protocols, key=order.__getitem__) for task, protocols in sorted(found.items())}


def _commonest(run: Run) -> Run:
    """Score a model that always answers the commonest class of the test set of `run`."""
    figures = {}
    for model, files in run.figures.items():
        images = [c["support"] for c in files.get("details", {}).get("per_class", {}).values() if c["support"]]
        if images:
            figures[model] = {"test": {"macro_f1": 2 * max(images) / (max(images) + sum(images)) / len(images)}}
    return replace(run, preset=COMMONEST, figures=figures)


def measured(runs: list[Run]) -> str:
    """Sum one preset's runs up, for its head: mean test macro-F1 by protocol and task."""
    said = []
    for task, protocols in models_of(runs).items():
        for protocol in protocols:
            scores = [score for _, score in scores_by_seed(runs, f"{task}-{protocol}")]
            said += [f"{task}-{protocol} {fmean(scores):.2f}"] if scores else []
    return f"macro-F1 {', '.join(said)} ({count(len(runs), 'seed')}; docs/experiments.md)"


def write_heads(folder: Path, runs: list[Run]) -> None:
    """Write what was measured into the line `# Measured: ` of each preset in `folder` that was run."""
    for name, found in by_preset(runs).items():
        write_head(folder / f"{name}.yaml", measured(found))


def write_head(path: Path, said: str) -> None:
    """Write what was measured into a preset's line `# Measured: `; nothing where there is no such preset."""
    if path.is_file():
        lines = path.read_text("utf-8").splitlines()
        lines = [f"# Measured: {said}" if line.startswith("# Measured: ") else line for line in lines]
        path.write_text("\n".join(lines) + "\n", "utf-8")


def experiments_page(runs: list[Run], presets: Mapping[str, Preset], about: str) -> str:
    """Write the page: one table of figures for each task, and what each experiment changes and costs.

    Its tables have no spaces around their bars: they are read rendered, or by a program.

    Parameters
    ----------
    runs
        All runs, seeds included.
    presets
        By name.
    about
        On which images and with which network this was run.

    Raises
    ------
    DataError
        There are no runs.
    """
    done = by_preset(runs)
    lines = ["# Which experiment does what?", "", *([about, ""] if about else [])]
    models = models_of(runs)
    for task, protocols in models.items():
        lines += [f"## {task}", "", *_figures(task, protocols, done), ""]
    lines += ["## What each one changes, costs, and gave in the report", "", *_costs(models, done, presets), ""]
    lines += ["## What a difference means", "", _caution(models, done), ""]
    failed = sorted((run for run in runs if run.error), key=lambda run: (run.preset, run.seed))
    if failed:
        lines += ["## Failed", ""] + [f"- {run.preset}, seed {run.seed}: {run.error}" for run in failed] + [""]
    unrun = sorted(set(presets) - {run.preset.partition(WITH)[0] for run in runs})
    if unrun:
        lines += ["## Not run here", "", ", ".join(f"`{name}`" for name in unrun) + ".", ""]
    return "\n".join(lines).rstrip() + "\n"


def _values(runs: list[Run], model: str, kind: str, key: str) -> list[float | None]:
    """Collect one figure over the seeds."""
    return [run.figures.get(model, {}).get(kind, {}).get(key) for run in runs]


def differences(runs: list[Run], baseline: list[Run], model: str) -> list[float]:
    """Subtract the baseline's test macro-F1 from each run's of the same seed, where both had the same split."""
    of, split = dict(scores_by_seed(baseline, model)), {run.seed: run.splits.get(model) for run in baseline}
    same = [run for run in runs if run.seed in of and run.splits.get(model) == split[run.seed]]
    return [score - of[seed] for seed, score in scores_by_seed(same, model)]


def scores_by_seed(runs: list[Run], model: str) -> list[tuple[int, float]]:
    """Pair each run's seed with its test macro-F1, where it has one."""
    scores = zip(runs, _values(runs, model, "test", "macro_f1"), strict=True)
    return [(run.seed, score) for run, score in scores if score is not None]


def _line(cells: Iterable[str]) -> str:
    return f"|{'|'.join(cells)}|"


def _figures(task: str, protocols: list[str], runs: Mapping[str, list[Run]]) -> list[str]:
    """Make the rows of one task: validation and test figures under each protocol."""
    columns = [f"{with_kind(p)}: {what}" for p in protocols for what in ("val. accuracy", "test macro-F1", "gain")]
    rows = [_line(["experiment", "seeds", *columns]), "|---" * (len(columns) + 2) + "|"]
    for name in runs:
        cells = [f"`{name}`", str(len(runs[name]))]
        for model in (f"{task}-{protocol}" for protocol in protocols):
            cells += [mean(_values(runs[name], model, "train", "val_accuracy"))]
            cells += [spread(_values(runs[name], model, "test", "macro_f1"))]
            gains = [] if name == BASELINE else differences(runs[name], runs.get(BASELINE, []), model)
            cells += [spread(gains, sign="+")]
        rows.append(_line(cells))
    return rows


def _costs(models: Mapping[str, list[str]], runs: Mapping[str, list[Run]], presets: Mapping[str, Preset]) -> list[str]:
    """Make the rows of cost, those of the last task's model under its first protocol, the report's finding beside."""
    task = list(models)[-1]
    model = f"{task}-{models[task][0]}"
    columns = ("experiment", "parameters", "weights (trained)", "epochs", "the report, image-level")
    rows = [_line(columns), "|---" * len(columns) + "|"]
    for name in (name for name in runs if name != COMMONEST):
        preset = presets.get(name.partition(WITH)[0], Preset("", []))
        train = next((run.figures.get(model, {}).get("train", {}) for run in runs[name]), {})
        weights = f"{train['weights']:,} ({train['trainable']:,})" if "weights" in train else "-"
        epochs = mean(_values(runs[name], model, "train", "epochs"), 0)
        changes = ", ".join(f"`{change}`" for change in preset.changes) or "-"
        rows.append(_line([f"`{name}`", changes, weights, epochs, preset.report or "-"]))
    return rows


def _caution(models: Mapping[str, list[str]], runs: Mapping[str, list[Run]]) -> str:
    """Say how much the seeds of one experiment differ, and how many gains look steady by chance alone."""
    sentences, together, same_way, by_chance = [], 0, 0, 0.0
    for task in (task for task, protocols in models.items() if "case" in protocols):
        tried = [name for name in runs if name != COMMONEST]
        scores = [[score for _, score in scores_by_seed(runs[name], f"{task}-case")] for name in tried]
        ranges = [max(found) - min(found) for found in scores if len(found) > 1]
        if ranges:
            sentences.append(f"{fmean(ranges):.2f} on average ({task}; at most {max(ranges):.2f})")
        for name in set(tried) - {BASELINE}:
            gains = differences(runs[name], runs.get(BASELINE, []), f"{task}-case")
            if len(gains) > 1:
                together += 1
                same_way += min(gains) > 0 or max(gains) < 0
                by_chance += 2 ** (1 - len(gains))
    if not sentences:
        return "One seed says nothing about a difference: run several (`-S seed=0,1,2`)."
    text = (
        "A seed changes the split, the first weights and the order of the images. Between seeds of one experiment, "
        f"case-level macro-F1 moves by {' and by '.join(sentences)}. So each run is compared with the baseline of the "
        "same seed, tested on the same images: the column `gain`, mean and range over seeds. A gain whose range "
        "includes zero is none."
    )
    if together:
        text += (
            f" Of {together} case-level gains, {same_way} have one sign under all seeds; chance alone would give "
            f"about {by_chance:.0f}."
        )
    return text + " The tables do not rank the experiments."
