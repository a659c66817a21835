"""Is the second run better than the first? Paired on the same cases, from the predictions that DVC keeps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biopsy.core.errors import DataError, ParamsError, nearest, some
from biopsy.evaluation.comparison import DeLong, Difference
from biopsy.evaluation.outcome import Undefined, settle
from biopsy.evaluation.pairing import Pair, pair_tables, pool_pairs
from biopsy.experiments.kinds import with_kind
from biopsy.experiments.revisions import Revision, find_revision, protocol_of

OUT_OF_FOLD = "out of fold"
WORSE = 1  # the exit code where the second is shown to be worse


@dataclass(frozen=True)
class Compared:
    """What one task and protocol showed.

    Attributes
    ----------
    task, protocol
        Which model.
    part
        What was predicted: 'validation', 'test' or 'out of fold'.
    images, cases
        How many.
    figure
        Which figure was compared.
    found
        The difference, or why there is none.
    areas
        For ROC-AUC with two classes: that of whole cases.
    equal
        Whether both gave the very same answers.
    """

    task: str
    protocol: str
    part: str
    images: int
    cases: int
    figure: str
    found: Difference | Undefined
    areas: DeLong | None
    equal: bool

    @property
    def verdict(self) -> str:
        """One sentence."""
        if isinstance(self.found, Undefined):
            return f"Not compared: {self.found.reason}."
        if self.equal:
            return "Both gave the very same answers."
        return self.found.verdict(self.figure)

    @property
    def worse(self) -> bool:
        """Whether the second is shown to be worse."""
        return isinstance(self.found, Difference) and self.found.shown and self.found.estimate < 0


def compare(
    names: tuple[str, str], figure: str, task: str | None, protocol: str | None, test: bool, root: Path = Path()
) -> list[Compared]:
    """Compare two runs in all tasks and protocols that both have, or in the chosen ones.

    Parameters
    ----------
    names
        A git revision, an experiment or 'workspace', twice; or of each as many, with commas: one a seed, pooled.
    figure
        One of `jackknife.FIGURES`.
    task, protocol
        Only these; None: all.
    test
        Compare the test part; by default the validation part, and all folds of a cross-validation.
    root
        The project's folder.

    Raises
    ------
    ParamsError
        No such revision, task or protocol, or twice the same run.
    DataError
        They were not made for the same images, their predictions are missing, or no figure can be compared.
    """
    seeds = _seeds(names, root)
    models = [_models(*pair, task, protocol) for pair in seeds]
    common = [model for model in models[0] if all(model in others for others in models)]
    results = [_compare(seeds, model, figure, test) for model in common]
    reasons = [result.found.reason for result in results if isinstance(result.found, Undefined)]
    if not results:
        raise DataError(f"The runs of {names[0]} and {names[1]} have no task and protocol in common.")
    if len(reasons) == len(results):
        few = any("too few cases" in reason for reason in reasons)
        tested = any(result.part == OUT_OF_FOLD for result in results)
        way_out = " Protocol case-cv5 tests every case." if few and not tested else ""
        raise DataError(
            f"{figure} of {names[0]} and {names[1]} cannot be compared: {some(dict.fromkeys(reasons), 3)}.{way_out}"
        )
    return results


def _seeds(names: tuple[str, str], root: Path) -> list[tuple[Revision, Revision]]:
    """Find the runs of both sides and put them in pairs."""
    first, second = ([find_revision(name.strip(), root) for name in side.split(",")] for side in names)
    if len(first) != len(second):
        raise ParamsError(
            f"{names[0]} are {len(first)} runs and {names[1]} are {len(second)}. Name as many on both sides, in the "
            "order of their seeds."
        )
    commits = [run.commit for run in (*first, *second)]
    twice = list(dict.fromkeys(run.name for run in (*first, *second) if commits.count(run.commit) > 1))
    if twice:
        same = f"{some(twice)} are one and the same run" if len(twice) > 1 else f"{twice[0]} is named twice"
        raise ParamsError(f"{same}. Name each run once.")
    return list(zip(first, second, strict=True))


def _models(first: Revision, second: Revision, task: str | None, protocol: str | None) -> list[tuple[str, str]]:
    """List what both have, in the order of the second."""
    for key, wanted in (("tasks", task), ("protocols", protocol)):
        for side in (first, second):
            if wanted is not None and wanted not in side.params[key]:
                hint = nearest(wanted, side.params[key]) or f" There are {some(side.params[key])}."
                raise ParamsError(f"{side.name} has no '{wanted}' among its {key}.{hint}")
    both = [model for model in second.models if model in first.models]
    chosen = [model for model in both if task in (None, model[0]) and protocol in (None, model[1])]
    if not chosen:
        sides = "; ".join(f"{side.name} {some('-'.join(model) for model in side.models)}" for side in (first, second))
        raise DataError(f"{first.name} and {second.name} have no task and protocol in common ({sides}).")
    return chosen


def part_of(protocol: str, test: bool) -> str:
    """Say what is compared under a protocol: all folds of a cross-validation, else the test or the validation part."""
    return OUT_OF_FOLD if protocol_of(protocol).folds else "test" if test else "validation"


def pair_models(seeds: Sequence[tuple[Revision, Revision]], model: tuple[str, str], test: bool) -> tuple[Pair, bool]:
    """Put the answers of one task and protocol side by side; also say whether they are the very same ones.

    Raises
    ------
    DataError
        They are not of the same images, or cannot be read.
    """
    ending = "-val" if part_of(model[1], test) == "validation" else ""
    name, pairs, equal = "-".join(model), list[Pair](), True
    for first, second in seeds:
        (one, before), (other, after) = (side.predictions(*model, ending) for side in (first, second))
        pairs.append(pair_tables(before, after, (f"{name}: {first.name}", second.name)))
        equal = equal and one == other
    return pool_pairs(pairs, name), equal


def positive_classes(runs: Sequence[Revision], task: str, pair: Pair) -> list[str] | Undefined:
    """Name the positive classes of all runs; where they differ, sensitivity is of something else in each."""
    named = {run.name: run.positive(task, pair.classes) for run in runs}
    first, *others = named.values()
    if all(set(other) == set(first) for other in others):
        return first
    said = [f"{name}: {some(found) or 'none'}" for name, found in named.items()]
    return Undefined(f"the positive classes differ ({'; '.join(said)})")


def _compare(seeds: Sequence[tuple[Revision, Revision]], model: tuple[str, str], figure: str, test: bool) -> Compared:
    pair, equal = pair_models(seeds, model, test)
    return Compared(
        *model, part_of(model[1], test), len(pair.truth), len(set(pair.cases.tolist())), figure,
        found=pair.differences(positive_classes([run for runs in seeds for run in runs], model[0], pair))[figure],
        areas=pair.areas() if figure == "roc_auc" else None,
        equal=equal,
    )  # fmt: skip


def as_text(results: Sequence[Compared]) -> str:
    """Write a line for each task and protocol."""
    return "\n".join(f"{_head(result)}: {result.verdict}{_areas(result.areas)}" for result in results)


def as_markdown(results: Sequence[Compared], names: tuple[str, str]) -> str:
    """Write a table for a pull request, and the verdicts below it."""
    rows = [
        "| task | protocol | figure | {} | {} | difference | 95 % interval |".format(*map(_in_cell, names)),
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        found = result.found
        cells = ["-"] * 4
        if isinstance(found, Difference):
            low, high = found.interval.low, found.interval.high
            cells = [
                f"{found.first:.3f}",
                f"{found.second:.3f}",
                f"{found.estimate:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
            ]
        rows.append(f"| {' | '.join([result.task, with_kind(result.protocol), result.figure, *cells])} |")
    return "\n".join([*rows, "", *(f"- {line}" for line in as_text(results).splitlines()), ""])


def _in_cell(name: str) -> str:
    return name.replace("|", r"\|")  # which a branch may have in its name


def as_data(results: Sequence[Compared], names: tuple[str, str]) -> dict[str, Any]:
    """List everything for a program, ready for JSON."""
    worse = any(result.worse for result in results)
    return {"first": names[0], "second": names[1], "worse": worse, "results": [_plain(result) for result in results]}


def _plain(result: Compared) -> dict[str, Any]:
    plain = {
        key: getattr(result, key)
        for key in ("task", "protocol", "part", "images", "cases", "figure", "equal", "verdict")
    }
    found = result.found
    if isinstance(found, Difference):
        plain |= {"first": found.first, "second": found.second, "difference": found.estimate}
        plain |= {
            "low": found.interval.low,
            "high": found.interval.high,
            "smallest": found.smallest,
            "shown": found.shown,
        }
    if result.areas:
        plain["cases_delong"] = asdict(result.areas)
    return settle(plain)


def _head(result: Compared) -> str:
    name = f"{result.task}-{with_kind(result.protocol)}"
    return f"{name}, {result.part}, {result.images} images of {result.cases} cases"


def _areas(areas: DeLong | None) -> str:
    if areas is None:
        return ""
    return f" ROC-AUC of cases: {areas.first:.3f} and {areas.second:.3f} (DeLong's p {areas.p_value:.2g})."
