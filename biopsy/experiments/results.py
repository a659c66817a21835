"""What the tests of all trained models found, as a table for the terminal."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biopsy.core.errors import DataError
from biopsy.core.params import read_params
from biopsy.core.protocol import PUBLIC, Protocol, parse_protocol
from biopsy.evaluation.records import Short, Splits, Summary, read_record
from biopsy.experiments.dvc_lock import is_fresh
from biopsy.experiments.kinds import KINDS, with_kind
from biopsy.experiments.revisions import Revision
from biopsy.networks.model_file import NOTICE
from biopsy.tables.split.published import PUBLISHED

WIDTH = 100
HEADER = ("task", "protocol", "macro-F1", "95 % interval", "bal.acc.", "ROC-AUC", "case F1", "images", "cases")
FIGURES = ("macro_f1", "f1_low", "f1_high", "bal_acc", "roc_auc", "case_f1")
FLATTERS = (
    "Protocol image has images of one slide in both training and test, so its figures are too high. For new patients "
    "quote protocol case, with its interval."
)
SHARES_CASES = (
    "Protocol {}, {}, can have cases in both training and test (counted above), so its figures may be too high. Quote "
    "it only to compare with papers on {}; for new patients quote protocol case."
)
OWN_TABLE = (
    "Protocol fold1 is here a fold table of your own (split.fold_table), not the official fold: its figures do not "
    "compare with papers on that fold."
)
EARLIER = "From earlier runs: params.yaml does not list these tasks and protocols."
SYNTHETIC = "Synthetic sample: these figures show that the pipeline works and say nothing about tissue."


def describe_results(root: Path) -> str:
    """Put the results below a project's folder in words.

    Parameters
    ----------
    root
        Holds `metrics/*/test.json` and `details.json`, and where they are made `metrics/split.json`,
        `data/raw/source.json` and `params.yaml`.

    Returns
    -------
    str
        A table of at most 100 columns, and below it what its reader must know; then a table of the tasks and protocols
        that params.yaml no longer lists.

    Raises
    ------
    DataError
        No model was tested yet, or a file is not what the pipeline wrote.
    """
    folders = [path.parent for path in (root / "metrics").glob("*/test.json")]
    if not folders:
        raise DataError(f"{root / 'metrics'} has no results. Run `dvc repro` first.")
    results = sorted((_result(folder) for folder in folders), key=_order)
    results, earlier = _by_run(root, results)
    notes = _stale_notes(root, results)
    notes += [note for result in results for note in _notes(result)] + _split_notes(root, results)
    if any(_protocol(result["protocol"]).unit == "image" for result in results):
        notes.append(FLATTERS)
    for name in [name for name in PUBLIC if any(result["protocol"] == name for result in results)]:
        own = name == "fold1" and _splits(root).get(name, {}).get("fold_table") == "own"
        notes.append(OWN_TABLE if own else shares_cases(name))
    notes += _synthetic_notes(results)
    lines = [*_in_table(results), "", *_filled(notes)]
    if earlier:
        lines += ["", *_filled([EARLIER]), *_in_table(earlier), *_filled(_synthetic_notes(earlier)), ""]
    return "\n".join([*lines, NOTICE])


def shares_cases(protocol: str) -> str:
    """Say of a public test set what its figures are good for."""
    what, on = ("the official fold", "that fold") if protocol == "fold1" else (PUBLISHED[protocol].what, "those slides")
    return SHARES_CASES.format(protocol, what, on)


def _result(folder: Path) -> dict[str, Any]:
    """Read one model's figures; `test` holds the short ones."""
    way_out = f"Run `dvc repro`, or `git checkout {folder}`."
    details = read_record(folder / "details.json", Summary, way_out)
    short = read_record(folder / "test.json", Short, way_out)
    if missing := {*FIGURES} - {*short}:
        raise DataError(f"{folder}/test.json lacks {', '.join(sorted(missing))}. {way_out}")
    return {**details, "test": short}


def _order(result: dict[str, Any]) -> tuple[Any, ...]:
    """Sort by task, then by protocol as in `KINDS`, then by the fold's number, all folds of one last."""
    found = _protocol(result["protocol"])
    place = list(KINDS).index(found.unit) if found.unit in KINDS else len(KINDS)
    return result["task"], place, found.unit, found.k, found.index or found.k + 1, found.repeats


def _row(result: dict[str, Any]) -> list[str]:
    test = result["test"]
    macro_f1, low, high, balanced, auc, case_f1 = (
        "-" if test[name] is None else f"{test[name]:.3f}" for name in FIGURES
    )
    interval = "-" if low == "-" else f"{low}-{high}"
    cases = "-" if result["cases"] is None else str(result["cases"])
    return [
        result["task"],
        with_kind(result["protocol"]),
        macro_f1,
        interval,
        balanced,
        auc,
        case_f1,
        str(result["images"]),
        cases,
    ]


def _protocol(name: str) -> Protocol:
    """Take a protocol's name apart; one that this version does not know is a kind of its own."""
    try:
        return parse_protocol(name)
    except ValueError:
        return Protocol(name, name)


def _filled(notes: Sequence[str]) -> list[str]:
    return [textwrap.fill(note, WIDTH) for note in notes]


def _in_table(results: list[dict[str, Any]]) -> list[str]:
    return _table([HEADER, *(_row(result) for result in results)])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the first two columns left and the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _notes(result: dict[str, Any]) -> list[str]:
    """Say which classes one test lacks, and why a figure of its row is missing."""
    name, notes = f"{result['task']}, {result['protocol']}", []
    if result["classes_not_in_test"]:
        absent = ", ".join(result["classes_not_in_test"])
        notes.append(f"{name}: {result['classes_in_test']} classes are tested, not {absent}.")
    if result["classes_not_in_training"]:
        notes.append(f"{name}: no training image of {', '.join(result['classes_not_in_training'])}.")
    return notes + [f"{name}: {note}." for note in lacking(result)]


def lacking(details: Mapping[str, Any]) -> Iterator[str]:
    """Say which of the short figures are null, and why; of a level that `details` lacks nothing is said."""
    shown = {
        "interval": ("intervals", "macro_f1"),
        "ROC-AUC": ("image_level", "roc_auc"),
        "case F1": ("case_level", "macro_f1"),
    }
    for figure, (level, key) in shown.items():
        found = details.get(level, {})
        if found.get(key, 0) is None:
            yield f"no {figure}, {found.get('reasons', {}).get(key, 'for a reason that is not known')}"


def _splits(root: Path) -> dict[str, Any]:
    """Read what the split stage counted, where it is made."""
    path = root / "metrics/split.json"
    return read_record(path, Splits) if path.is_file() else {}


def _split_notes(root: Path, results: list[dict[str, Any]]) -> list[str]:
    """Repeat what the split stage says of each protocol's leak."""
    says = _splits(root)
    protocols = dict.fromkeys(result["protocol"] for result in results)
    return [f"Protocol {name}: {says[name]['says']}." for name in protocols if "says" in says.get(name, {})]


def _stale_notes(root: Path, results: list[dict[str, Any]]) -> list[str]:
    """Say which rows are the work of other parameters than those of now, as far as dvc.lock can be read."""
    now = Revision("workspace", None, root)
    try:
        names = {f"evaluate@{result['task']}-{result['protocol']}": result for result in results}
        old = [r for stage, r in names.items() if stage in now.stages and not is_fresh(now.stages, stage, now.params)]
    except DataError:
        return []
    rows = "; ".join(f"{result['task']}, {result['protocol']}" for result in old)
    return [f"Made with other parameters or models than those of now: {rows}. Run `dvc repro`."] if old else []


def _synthetic_notes(results: list[dict[str, Any]]) -> list[str]:
    """Say of which rows the images are synthetic, where not all are."""
    rows = [f"{result['task']}, {result['protocol']}" for result in results if result["synthetic"]]
    if not rows or len(rows) == len(results):
        return [SYNTHETIC] * bool(rows)
    return [f"Of the synthetic sample, and nothing about tissue: {'; '.join(rows)}. The other rows are of your images."]


def _by_run(root: Path, results: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Part the results of tasks and protocols that the parameters list from others, unless all are others."""
    path = root / "params.yaml"
    if not path.is_file():
        return results, []
    params = read_params(path)
    listed = [r for r in results if r["task"] in params.tasks and r["protocol"] in params.protocols]
    return (listed, [r for r in results if r not in listed]) if listed else (results, [])
