"""All experiments side by side: what `dvc exp show` knows, as a page that a person reads."""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from biopsy.errors import DataError
from biopsy.sections import Task

BASELINE = "baseline"  # what runs without a preset are called
LONG = 150
UNFINISHED = ("queued", "running")
FILES = ("test", "train", "cost")


@dataclass(frozen=True)
class Preset:
    """One file of conf/experiment/.

    Attributes
    ----------
    says
        The first sentence of its head; of a long one what stands before its colon.
    report
        What its line `# Report:` says the report found; empty where the report did not try it.
    changes
        Its parameters, `key=value`.
    """

    says: str
    report: str
    changes: list[str]


@dataclass(frozen=True)
class Run:
    """One experiment that DVC keeps.

    Attributes
    ----------
    preset
        The parameter `experiment`.
    seed
        The parameter `seed`.
    figures
        By model (`binary-case`) and file (`test`, `train`, `cost`): what that metrics file holds.
    error
        Why it failed; empty where it ended well.
    """

    preset: str
    seed: int
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]]
    error: str = ""


def read_preset(path: Path) -> Preset:
    """Read the head and the differences of one preset."""
    text = path.read_text("utf-8")
    head = [line[1:].strip() for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    says = " ".join(head).split(" dvc exp run")[0].split(". ")[0].rstrip(".")
    if len(says) > LONG:
        says = says.split(": ")[0]
    report = next((line.removeprefix("Report:").strip() for line in head if line.startswith("Report:")), "")
    content = yaml.safe_load(text) or {}
    chosen = [
        f"{key.removeprefix('override /')}={value}"
        for entry in content.pop("defaults", [])
        if isinstance(entry, dict)
        for key, value in entry.items()
    ]
    content.pop("experiment", None)
    return Preset(says, report, chosen + _flat(content))


def _flat(content: Mapping[str, Any], before: str = "") -> list[str]:
    """List nested parameters as `a.b=value`."""
    found = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{before}{key}.")
        else:
            found.append(f"{before}{key}={json.dumps(value).replace(chr(34), '')}")
    return found


def shown_runs(root: Path) -> list[Run]:
    """Ask DVC for all experiments of the project at `root`. Raises `DataError` with what DVC said."""
    answer = subprocess.run(["dvc", "exp", "show", "--json", "-A"], cwd=root, capture_output=True, text=True)
    if answer.returncode:
        raise DataError(f"`dvc exp show` failed in {root}: {answer.stderr.strip().splitlines()[-1]}")
    return parse_runs(json.loads(answer.stdout), lambda rev, path: _at_revision(root, rev, path))


def parse_runs(shown: Iterable[Mapping[str, Any]], read: Any) -> list[Run]:
    """Pick the experiments that have ended out of `dvc exp show --json`; of two with one name and seed, the first.

    One that waits or runs has a revision too, whose metrics files are still those of the commit that it starts from.

    Parameters
    ----------
    shown
        What it printed.
    read
        `(revision, path) -> dict or None`: a metrics file as that experiment committed it; DVC shows `test.json` alone.
    """
    runs: dict[tuple[str, int], Run] = {}
    groups = [group for base in shown for group in base["experiments"] or []]
    ended = [group for group in groups if (group.get("executor") or {}).get("state") not in UNFINISHED]
    for entry in (rev for group in ended for rev in group["revs"] or []):
        data = entry["data"] or {}
        params = data.get("params", {}).get("params.yaml", {}).get("data", {})
        if not params:
            continue
        figures = {
            f"{task}-{protocol}": {
                kind: found
                for kind in FILES
                if (found := read(entry["rev"], f"metrics/{task}-{protocol}/{kind}.json")) is not None
            }
            for task in params["tasks"]
            for protocol in params["protocols"]
        }
        error = " ".join(str((entry["error"] or {}).get("msg", "")).split())
        run = Run(params.get("experiment") or BASELINE, params["seed"], figures if not error else {}, error)
        runs.setdefault((run.preset, run.seed), run)
    return list(runs.values())


def _at_revision(root: Path, revision: str, path: str) -> dict[str, Any] | None:
    """Read a committed JSON file, None where that revision has none."""
    shown = subprocess.run(["git", "show", f"{revision}:{path}"], cwd=root, capture_output=True, text=True)
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def spread(values: list[float | None], digits: int = 2) -> str:
    """Write a mean with its range: `0.76 (0.70-0.81)`; a dash where there is nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{fmean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f}-{max(known):.{digits}f})"


def experiments_page(runs: list[Run], presets: Mapping[str, Preset], about: str) -> str:
    """Write the page: what each experiment changes and costs, and one table of figures for each task.

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
        There is no run.
    """
    by_preset: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_preset[run.preset].append(run)
    done = {name: [r for r in found if not r.error] for name, found in by_preset.items()}
    names = sorted((name for name, found in done.items() if found), key=lambda name: (name != BASELINE, name))
    if not names:
        raise DataError("DVC keeps no experiment here. Run some: `dvc exp run -S +experiment=<name>`.")
    lines = ["# Which experiment does what?", "", about, ""]
    for task in ("binary", "multiclass"):
        lines += [f"## {task}", "", *_figures(task, names, done, presets), ""]
    lines += ["## What each one changes and costs", "", *_costs(names, done, presets), ""]
    lines += ["## What a difference means", "", _caution(names, done), ""]
    failed = [(name, run) for name, found in sorted(by_preset.items()) for run in found if run.error]
    if failed:
        lines += ["## What failed", ""] + [f"- {name}, seed {run.seed}: {run.error}" for name, run in failed] + [""]
    unrun = sorted(set(presets) - set(names) - {name for name, _ in failed})
    if unrun:
        lines += ["## Not run here", "", "They need weights, a table, a GPU or more time than this run had:", ""]
        lines += [f"- `{name}`: {presets[name].says}." for name in unrun] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _values(runs: list[Run], model: str, kind: str, key: str) -> list[float | None]:
    """Collect one figure over the seeds, in their order."""
    return [run.figures.get(model, {}).get(kind, {}).get(key) for run in sorted(runs, key=lambda run: run.seed)]


def _figures(task: Task, names: list[str], runs: Mapping[str, list[Run]], presets: Mapping[str, Preset]) -> list[str]:
    """Make the rows of one task: validation accuracy and test macro-F1 under both protocols, the report's beside."""
    rows = [
        "| experiment | seeds | image: val. accuracy | image: test macro-F1 | case: val. accuracy "
        "| case: test macro-F1 | the report, image-level, all images |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        cells = [
            spread(_values(runs[name], f"{task}-{protocol}", kind, key))
            for protocol in ("image", "case")
            for kind, key in (("train", "val_accuracy"), ("test", "macro_f1"))
        ]
        said = presets[name].report if name in presets else ""
        rows.append(f"| `{name}` | {len(runs[name])} | {' | '.join(cells)} | {said or '-'} |")
    return rows


def _costs(names: list[str], runs: Mapping[str, list[Run]], presets: Mapping[str, Preset]) -> list[str]:
    """Make the rows of cost, those of the model for eight types under protocol image."""
    rows = [
        "| experiment | what | parameters | weights (that train) | s an epoch | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    model = "multiclass-image"
    for name in names:
        preset = presets.get(name, Preset("the default", "", []))
        train = next((run.figures.get(model, {}).get("train", {}) for run in runs[name]), {})
        weights = f"{train['weights']:,} ({train['trainable']:,})" if "weights" in train else "-"
        seconds = spread(_values(runs[name], model, "cost", "seconds_per_epoch"))
        peak = spread(_values(runs[name], model, "cost", "peak_mb"), 0)
        changes = ", ".join(f"`{change}`" for change in preset.changes) or "-"
        rows.append(f"| `{name}` | {preset.says} | {changes} | {weights} | {seconds} | {peak} |")
    return rows


def _caution(names: list[str], runs: Mapping[str, list[Run]]) -> str:
    """Say how far the seeds of one experiment lie apart, which is what a difference must exceed."""
    sentences = []
    for task in ("binary", "multiclass"):
        ranges = []
        for name in names:
            values = [v for v in _values(runs[name], f"{task}-case", "test", "macro_f1") if v is not None]
            if len(values) > 1:
                ranges.append(max(values) - min(values))
        if ranges:
            sentences.append(
                f"case-level macro-F1 of the {task} task moves by {fmean(ranges):.2f} on average, and by up to "
                f"{max(ranges):.2f}, between seeds of one experiment"
            )
    if not sentences:
        return "One seed alone says nothing about a difference: run several (`-S seed=0,1,2`)."
    return (
        "A seed changes the split, the weights' start and the order of the images; with so few cases it decides which "
        f"patients are tested. Here {'; '.join(sentences)}. A difference between two experiments that is smaller than "
        "that is no difference: on this subset most of the experiments cannot be told apart by their case-level "
        "figures, and a ranking would be a ranking of test patients. A row of one seed has no range at all, and is "
        "worth as little. What the tables do show is the distance between the two protocols."
    )
