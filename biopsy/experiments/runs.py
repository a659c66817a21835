"""The experiments that DVC keeps: their parameters, and the figures that are theirs."""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from biopsy.core.errors import reason_in, some
from biopsy.core.files import parse_json
from biopsy.core.layout import SPLITS
from biopsy.core.params import flat
from biopsy.experiments.dvc_lock import is_fresh, md5_of, read_stages
from biopsy.experiments.revisions import EXPERIMENTS
from biopsy.experiments.shell import output, output_or_none

BASELINE = "baseline"  # what runs without a preset are called
WITH = " with "  # between a preset and what else was set
NAMED = 3  # at most so many differing settings are named
FAILED = "refs/exps/celery/failed"  # DVC's queue; its log has a line for each
FAILED_FROM = re.compile(r"dvc-exp:[0-9a-f]+:([0-9a-f]+):")
UNFINISHED = ("queued", "running")
FIGURES = {"train": ("train",), "evaluate": ("test", "details")}  # by the stage that writes them
Read = Callable[[str, str], str | None]


@dataclass(frozen=True)
class Run:
    """One experiment that DVC keeps.

    Attributes
    ----------
    preset
        The parameter `experiment`; where runs of one preset differ in more than the seed, also in what.
    seed
        The parameter `seed`.
    figures
        By model (`binary-case`) and file (`test`, `train`, `details`): what that metrics file holds.
    error
        Why it failed; empty where it ended well.
    splits
        By model: the MD5 of the split that it was trained and tested on.
    settings
        All parameters but these two, `key=value`.
    """

    preset: str
    seed: int
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]]
    error: str = ""
    splits: Mapping[str, str | None] = field(default_factory=dict)
    settings: tuple[str, ...] = ()


def settings(content: Mapping[str, Any]) -> list[str]:
    """List nested parameters as `a.b=value`."""
    return [f"{key}={json.dumps(value).replace(chr(34), '')}" for key, value in flat(content)]


def shown_runs(root: Path) -> list[Run]:
    """Ask DVC for all experiments of the project at `root`. Raises what `shell.output` does."""
    print("reading the experiments that DVC keeps; this may take a minute", file=sys.stderr, flush=True)
    # With `--all-commits` DVC reads each commit's parameters and lock: minutes where the history is long.
    revisions = [word for commit in _baselines(root) for word in ("--rev", commit)]
    shown = json.loads(output("dvc", "exp", "show", "--json", "--hide-queued", *revisions, cwd=root))
    return parse_runs(shown, lambda rev, path: output_or_none("git", "show", f"{rev}:./{path}", cwd=root))


def _baselines(root: Path) -> list[str]:
    """List the commits that experiments start from: of those that DVC keeps, and of those that failed in its queue."""
    kept = output("git", "for-each-ref", "--format=%(refname)", EXPERIMENTS, cwd=root).split()
    failed = output_or_none("git", "log", "-g", "--format=%gs", FAILED, cwd=root) or ""
    return sorted({"".join(ref.split("/")[2:4]) for ref in kept} | set(FAILED_FROM.findall(failed)))


def parse_runs(shown: Iterable[Mapping[str, Any]], read: Read) -> list[Run]:
    """Pick the experiments that have ended out of `dvc exp show --json`.

    Where two have the same parameters, the first that did not fail counts. One that waits or runs has a revision too,
    whose metrics files are still those of the commit that it starts from.

    Parameters
    ----------
    shown
        What it printed.
    read
        `(revision, path) -> text or None`: a file as that experiment committed it; DVC shows `test.json` alone.
    """
    runs: dict[Any, Run] = {}
    groups = [group for base in shown for group in base["experiments"] or []]
    ended = [group for group in groups if (group.get("executor") or {}).get("state") not in UNFINISHED]
    pairs = [(rev, group.get("executor") or {}) for group in ended for rev in group["revs"] or []]
    for entry, executor in tqdm(pairs, desc="experiments", unit="run", delay=2):
        params = (entry["data"] or {}).get("params", {}).get("params.yaml", {}).get("data")
        if not params:
            continue
        rest = tuple(settings({key: value for key, value in params.items() if key not in ("experiment", "seed")}))
        run = Run(params.get("experiment") or BASELINE, params["seed"], {}, _reason(entry, executor), settings=rest)
        if not run.error:
            run = _with_figures(run, params, partial(read, entry["rev"]))
        key = run.preset, run.seed, run.settings
        if runs.setdefault(key, run).error and not run.error:
            runs[key] = run
    return _told_apart(list(runs.values()))


def _with_figures(run: Run, params: Mapping[str, Any], read: Callable[[str], str | None]) -> Run:
    """Read the figures that are this run's: where a model was not trained or not tested, not those of an older one."""
    stages = read_stages(read("dvc.lock") or "")
    figures, splits = {}, {}
    for model, protocol in (
        (f"{task}-{protocol}", protocol) for task in params["tasks"] for protocol in params["protocols"]
    ):
        kinds = [kind for stage in FIGURES if is_fresh(stages, f"{stage}@{model}", params) for kind in FIGURES[stage]]
        texts = {kind: read(f"metrics/{model}/{kind}.json") for kind in kinds}
        names = {kind: f"metrics/{model}/{kind}.json of an experiment" for kind in kinds}
        figures[model] = {kind: parse_json(t.encode(), names[kind], {}) for kind, t in texts.items() if t is not None}
        splits[model] = md5_of(stages, f"train@{model}", "deps", (SPLITS / f"{protocol}.csv").as_posix())
    return replace(run, figures=figures, splits=splits)


def _told_apart(runs: list[Run]) -> list[Run]:
    """Name what differs between runs of one preset, beside the seed, as they are no repetitions then."""
    known: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for run in runs:
        if run.settings not in known[run.preset]:
            known[run.preset].append(run.settings)
    named = []
    for run in runs:
        variants = known[run.preset]
        own = sorted(set(run.settings).difference(set(variants[0]).intersection(*variants)))
        number = f", variant {variants.index(run.settings) + 1}" if len(own) > NAMED else ""  # the list is cut short
        label = f"{run.preset}{WITH}{some(own, NAMED)}{number}"
        named.append(replace(run, preset=label) if len(variants) > 1 else run)
    return named


def _reason(entry: Mapping[str, Any], executor: Mapping[str, Any]) -> str:
    """Say why an experiment failed: what its log says, as DVC itself knows no more than that it did; empty if not."""
    if not entry["error"]:
        return ""
    log = Path((executor.get("local") or {}).get("log") or "")
    said = reason_in(log.read_text("utf-8", "replace")) if log.is_file() else ""
    return " ".join((said or str(entry["error"].get("msg") or "failed")).split())
