"""`biopsy compare`: commits, experiments and the workspace of a real DVC project whose one stage copies predictions."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from accessible import violations
from biopsy import cli
from biopsy.core.cost import Meter
from biopsy.evaluation import intervals
from biopsy.evaluation.outcome import Undefined
from biopsy.experiments.compare import Compared, as_markdown, as_text
from predictions import predictions
from scratch import call

STAGES = """
stages:
  evaluate:
    matrix: {task: [binary], protocol: [case, case-cv3]}
    cmd: mkdir -p data/predictions && python copy_predictions.py ${item.task}-${item.protocol}
    params: [seed, train.skill]
    deps: [copy_predictions.py, tables]
    outs:
      - data/predictions/${item.task}-${item.protocol}.csv
      - data/predictions/${item.task}-${item.protocol}-val.csv
      - data/seen-${item.protocol}.csv
      - metrics/${item.task}-${item.protocol}/details.json: {cache: false}
  report:
    cmd: mkdir -p plots && python copy_predictions.py
    deps: [metrics]
    outs: [plots/report.html]
"""
COPY = """
import json, os, shutil, sys, yaml
skill = yaml.safe_load(open("params.yaml"))["train"]["skill"]
if len(sys.argv) == 1:
    open("plots/report.html", "w").write(f'<h1>{skill}</h1><div id="revision">-</div><div id="costs">-</div>')
for model in sys.argv[1:]:
    for ending in ("", "-val"):
        shutil.copy(f"tables/{model}-{skill}.csv", f"data/predictions/{model}{ending}.csv")
    open(f"data/seen-{model.partition('-')[2]}.csv", "w").write(skill)
    os.makedirs(f"metrics/{model}", exist_ok=True)
    value = 0.25 if skill.startswith("poor") else 0.75
    level = {"macro_f1": value, "balanced_accuracy": None, "accuracy": None, "roc_auc": None}
    about = {"task": "binary", "protocol": "case", "synthetic": False, "images": 48, "cases": 12, "threshold": 0.5}
    classes = {"classes": ["benign", "malignant"], "classes_in_test": "2 of 2", "per_class": {}, "cases_right": None}
    classes |= dict.fromkeys(("classes_not_in_test", "classes_not_in_training"), [])
    ends = {"intervals": {"macro_f1": [0.125, 0.875]}, "case_intervals": {"macro_f1": None}}
    details = {**about, **classes, **ends, "image_level": level, "case_level": level}
    json.dump(details, open(f"metrics/{model}/details.json", "w"))
"""
PARAMS = """
seed: 0
tasks: [binary]
protocols: [case, case-cv3]
labels: {tasks: {binary: {positive: [malignant]}}}
train: {skill: %s}
"""
SKILLS = {"poor": 0.0, "good": 4.0, "poor1": 0.0, "good1": 4.0}  # the last two of another seed


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`main` holds the poor model, tag `better` and experiment `tried-it` the good one, `few` one with other images."""
    root = tmp_path_factory.mktemp("compare")
    (root / "tables").mkdir()
    for i, (name, skill) in enumerate(SKILLS.items()):
        table = predictions(skill, noise=i)
        table.to_csv(root / f"tables/binary-case-{name}.csv", index=False)
        folds = table.assign(fold=[f"1-{number % 3 + 1}" for number in range(len(table))])
        folds.to_csv(root / f"tables/binary-case-cv3-{name}.csv", index=False)
    for name in ("binary-case", "binary-case-cv3"):
        few = (root / f"tables/{name}-good.csv").read_text().splitlines()[:-12]
        (root / f"tables/{name}-few.csv").write_text("\n".join(few) + "\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "copy_predictions.py").write_text(COPY)
    for command in (["git", "init", "-b", "main"], ["dvc", "init"]):
        call(root, *command, "-q")
    tags = (("good", "begun"), ("good", "better"), ("few", "few"), ("poor1",) * 2, ("good1",) * 2, ("poor", "poor"))
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    for name, tag in tags:
        (root / "params.yaml").write_text(PARAMS % name)
        if tag != "begun":
            call(root, "dvc", "repro", "-q", *(["evaluate"] if tag != "better" else []))
        call(root, "git", "add", "-A")
        call(root, "git", "commit", "-qm", name)
        call(root, "git", "tag", tag)
    good = call(root, "git", "rev-parse", "better").stdout.strip()  # as DVC names an experiment
    call(root, "git", "update-ref", f"refs/exps/{good[:2]}/{good[2:]}/tried-it", good)
    return root


def compare(project: Path, *arguments: str, verb: str = "compare") -> int:
    """Run the command in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["biopsy", verb, *arguments, "--root", str(project)])
        try:
            cli.main()
        except SystemExit as left:
            return int(left.code or 0)
    return 0


@pytest.mark.parametrize(
    ("sides", "code", "words"),
    [
        (("main,poor1", "better,good1"), 0, "The second model's macro_f1 is higher (+0."),
        (("good1, better", "poor1, main"), 1, "The second model's macro_f1 is lower (-0."),
        (("main", "better"), 0, "The second model's macro_f1 is higher (+0."),
        (("main", "tried-it"), 0, "is higher"),
        (("workspace", "better"), 0, "is higher"),
        (("better", "main"), 1, "The second model's macro_f1 is lower (-0."),
        (("better", "tried-it~0"), 2, "there is no revision"),
        (("workspace", "main"), 0, "Both gave the very same answers."),
    ],
)
def test_the_exit_code_is_1_where_the_second_is_shown_to_be_worse(
    project: Path, sides: tuple[str, str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(project, *sides) == code
    printed = capsys.readouterr()
    assert words in printed.out + printed.err
    if code < 2:
        heads = [line.split(": ")[0] for line in printed.out.splitlines()]
        assert heads == [
            "binary-case (honest), validation, 48 images of 12 cases",
            "binary-case-cv3 (honest), out of fold, 48 images of 12 cases",
        ]


def test_a_protocol_that_flatters_is_marked_in_text_and_table() -> None:
    found = [Compared("binary", "image", "validation", 4, 2, "macro_f1", Undefined("x"), None, equal=False)]
    assert as_text(found) == "binary-image (leaks), validation, 4 images of 2 cases: Not compared: x."
    table = as_markdown(found, ("a|b", "c"))
    assert r"| figure | a\|b | c | difference |" in table
    assert "| binary | image (leaks) | macro_f1 | - |" in table


def test_a_revision_whose_name_is_no_text_can_be_compared(project: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    call(project, "git", "tag", name, "better")
    files = ["--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")]
    try:
        assert compare(project, "main", name, *files) == 0
        assert compare(project, name, "--compare", "main", "--out", str(tmp_path / "x.html"), verb="report") == 0
    finally:
        call(project, "git", "update-ref", "-d", f"refs/tags/{name}")
    assert json.loads((tmp_path / "x.json").read_text())["second"] == name
    assert "udce9" in (tmp_path / "x.md").read_text()


def test_seeds_are_pooled_each_figure_the_mean_over_them(project: Path, tmp_path: Path) -> None:
    def figures(*sides: str) -> tuple[float, float, float]:
        compare(project, *sides, "--protocol", "case", "--json", str(tmp_path / "x.json"))
        (result,) = json.loads((tmp_path / "x.json").read_text())["results"]
        return result["first"], result["second"], result["high"] - result["low"]

    one, other, both = figures("main", "better"), figures("poor1", "good1"), figures("main,poor1", "better,good1")
    assert both[:2] == pytest.approx(((one[0] + other[0]) / 2, (one[1] + other[1]) / 2), abs=1e-5)
    assert one != other
    assert both[2] < max(one[2], other[2])


def test_a_program_and_a_pull_request_get_the_same_figures(project: Path, tmp_path: Path) -> None:
    options = ["--test", "--protocol", "case", "--figure", "roc_auc"]
    files = ["--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")]
    assert compare(project, "better", "main", *options, *files) == 1
    told = json.loads((tmp_path / "x.json").read_text())
    assert (told["first"], told["second"], told["worse"]) == ("better", "main", True)
    (result,) = told["results"]
    assert (result["part"], result["figure"], result["shown"]) == ("test", "roc_auc", True)
    assert result["difference"] == pytest.approx(result["second"] - result["first"], abs=1e-5)
    assert result["cases_delong"]["first"] > result["cases_delong"]["second"]
    row = next(line for line in (tmp_path / "x.md").read_text().splitlines() if line.startswith("| binary"))
    assert f"| {result['difference']:+.3f} |" in row


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["main", "main"], 2, "main is named twice. Name each run once."),
        (["main", "poor"], 2, "one and the same run"),
        ([".", "workspace"], 2, "workspace is named twice"),
        (["main,poor1", "better,poor"], 2, "main, poor are one and the same run. Name each run once."),
        (["main,main", "better,good1"], 2, "main is named twice. Name each run once."),
        (["main,poor1", "better"], 2, "main,poor1 are 2 runs and better are 1. Name as many on both sides"),
        (["main", "bettr"], 2, "there is no revision or experiment 'bettr'. Did you mean 'better'?"),
        (["main", "tried-itt"], 2, "Did you mean 'tried-it'?"),
        (["main", "--output=x"], 2, "No such option: --output"),
        (["main", "better", "--task", "binry"], 2, "has no 'binry' among its tasks. Did you mean 'binary'?"),
        (["main", "better", "--protocol", "case-cv5"], 2, "Did you mean 'case-cv3'?"),
        (["main", "few"], 3, "binary-case: main and few answered different images: 12 of 48 have one answer."),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    project: Path, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(project, *arguments) == code
    assert words in capsys.readouterr().err


def test_too_few_cases_are_one_sentence_with_the_way_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intervals, "FEWEST", 20)
    assert compare(project, "main", "better", "--protocol", "case") == 3
    assert (
        "macro_f1 of main and better cannot be compared: too few cases: 12 cases are tested, an interval needs 20. "
        "Protocol case-cv5 tests every case."
    ) in capsys.readouterr().err


def test_missing_damaged_and_stale_predictions_say_what_to_run(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(project, tmp_path / "project", symlinks=True)

    def says(*words: str) -> None:
        assert compare(root, "better", "workspace") == 3
        printed = capsys.readouterr().err
        assert all(word in printed for word in words), printed

    file = root / "data/predictions/binary-case-val.csv"
    content = file.read_text()
    file.unlink()
    file.write_text("other\n")
    says("is not what dvc.lock records", "`dvc repro evaluate@binary-case`")
    file.unlink()
    says("workspace: data/predictions/binary-case-val.csv is not on this machine", "`dvc pull evaluate@binary-case`")
    file.write_text(content)
    (root / "params.yaml").write_text(PARAMS % "good")
    says("made with other parameters than its params.yaml")
    (root / "params.yaml").write_text(PARAMS % "poor")
    shutil.rmtree(root / ".dvc/cache")
    says(
        "better: data/predictions/binary-case-val.csv is not on this machine", "`dvc fetch --all-commits`; if no remote"
    )
    for content in ("a text", "tasks: binary\nprotocols: [case]\n", "tasks: [1]\nprotocols: [case]\n"):
        (root / "params.yaml").write_text(content)
        says("workspace: params.yaml lists no tasks and protocols")
    (root / "params.yaml").write_text(PARAMS % "poor")
    for name in ("dvc.lock", "params.yaml"):
        (root / name).write_bytes(b"\xff\xfe\x00")
        assert compare(root, "workspace", "better") == 3
        assert name in capsys.readouterr().err
        (root / name).unlink()
        assert compare(root, "workspace", "better") == 3
        assert f"workspace has no {name}" in capsys.readouterr().err


def copy_with_params(project: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy the project; its workspace holds the good model, under changed parameters."""
    root = shutil.copytree(project, to, symlinks=True)
    call(root, "git", "checkout", "-q", "better")
    call(root, "dvc", "checkout", "-q")
    params = yaml.safe_load((root / "params.yaml").read_text())
    change(params)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


@pytest.mark.parametrize("named", ["Malignant", "MALIGNANT "])
def test_positive_classes_are_found_as_the_csv_spells_them(named: str, project: Path, tmp_path: Path) -> None:
    root = copy_with_params(
        project, tmp_path / "project", lambda p: p["labels"]["tasks"]["binary"].update(positive=[named])
    )
    options = ["--figure", "sensitivity", "--json"]
    for second in ("better", "workspace"):
        compare(root, "main", second, *options, str(tmp_path / f"{second}.json"))
    one, other = (json.loads((tmp_path / f"{name}.json").read_text())["results"] for name in ("better", "workspace"))
    assert one == other


def test_runs_with_other_positive_classes_have_no_sensitivity_to_compare(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_with_params(
        project, tmp_path / "project", lambda p: p["labels"]["tasks"]["binary"].update(positive=["benign"])
    )
    assert compare(root, "main", "workspace") == 0
    assert compare(root, "main", "workspace", "--figure", "sensitivity") == 3
    assert capsys.readouterr().err.endswith(
        "cannot be compared: the positive classes differ (main: malignant; workspace: benign).\n"
    )


def test_runs_without_a_common_model_say_so(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_with_params(project, tmp_path / "project", lambda p: p.update(protocols=["case-cv3"]))
    call(root, "git", "commit", "-qam", "folds")
    call(root, "git", "tag", "folds")
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("case-cv3", "case"))
    assert compare(root, "poor,poor1", "folds,workspace") == 3
    assert "The runs of poor,poor1 and folds,workspace have no task and protocol in common." in capsys.readouterr().err


def test_a_cross_validation_that_lacks_a_fold_and_an_unknown_protocol_are_one_sentence(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_with_params(project, tmp_path / "project", lambda p: p.update(protocols=["case-cv3", "patients"]))
    for name in ("good", "poor"):
        table = root / f"tables/binary-case-cv3-{name}.csv"
        table.write_text("".join(line for line in table.open() if ",1-3" not in line))
    (root / "params.yaml").write_text(PARAMS % "good")
    call(root, "dvc", "repro", "-q", "evaluate")
    assert compare(root, "main", "workspace", "--protocol", "case-cv3") == 3
    assert (
        "workspace: data/predictions/binary-case-cv3.csv holds 2 folds (1-1, 1-2), and protocol case-cv3 has 3 folds "
        "(1-1, 1-2, 1-3). Make it again with `dvc repro evaluate@binary-case-cv3`."
    ) in capsys.readouterr().err
    (root / "params.yaml").write_text((PARAMS % "good").replace("[case, case-cv3]", "[patients]"))
    call(root, "git", "commit", "-qam", "old")
    call(root, "git", "tag", "old")
    (root / "params.yaml").write_text((PARAMS % "good1").replace("[case, case-cv3]", "[patients]"))
    assert compare(root, "old", "workspace") == 3
    assert "protocols: 'patients' is not a protocol" in capsys.readouterr().err


def report(project: Path, out: Path, *arguments: str) -> list[str]:
    """Write a page with `biopsy report`; return the text of each of its rows, cell by cell, and of its other lines."""
    assert compare(project, *arguments, "--out", str(out), verb="report") == 0
    page = out.read_text()
    assert not re.search(r"https?:|<script[^>]|src=", page)
    return [" ".join(re.sub("<[^>]+>", " ", line).split()) for line in page.splitlines()]


def test_two_runs_stand_side_by_side_with_figures_verdict_and_all_that_changed(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], phone: tuple[Any, list[str]]
) -> None:
    page = report(project, tmp_path / "x.html", "better", "--compare", "main")
    told = capsys.readouterr().out
    shown, errors = phone
    shown.goto(f"file://{tmp_path / 'x.html'}")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(shown) == errors == []
    higher = "48 images of 12 cases: The second model's macro-F1 is higher (+0."
    assert f"binary, protocol case (honest): Validation, {higher}" in told
    assert f"binary, protocol case-cv3 (honest): Out of fold, {higher}" in told
    (row,) = {line for line in page if line.startswith("macro-F1")}
    assert re.fullmatch(
        r"macro-F1 +0\.250 +0\.750 +\+0\.\d{3} +\+0\.\d{3} to \+0\.\d{3} +0\.125 to 0\.875 +0\.125 to 0\.875", row
    )
    assert any(re.search("train.skill +poor +good", line) for line in page)
    changed = next(line for line in page if "data/seen-case.csv" in line)
    assert re.search(r"data +data/seen-case.csv +[0-9a-f]{12} +[0-9a-f]{12}", changed)
    assert "tables" not in changed  # the same on both sides


def test_different_test_sets_stand_beside_each_other_and_a_sentence_says_why_they_do_not_compare(
    project: Path, tmp_path: Path
) -> None:
    page = report(project, tmp_path / "x.html", "few", "--compare", "main")
    said = (
        "test figures cannot be compared: binary-case: main and few answered different images: 12 of 48 have one answer"
    )
    assert any(said in line for line in page)
    rows = [row for row in page if row.startswith("macro-F1")]
    assert all(re.fullmatch(r"macro-F1 +0\.250 +0\.750 +- +- +0.*", row) for row in rows)


def test_a_protocol_that_flatters_stands_last_and_says_so_and_no_hash_fills_a_line(
    project: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(project, root)
    (root / "params.yaml").write_text((PARAMS % "poor").replace("[case, case-cv3]", "[image, case]"))
    call(root, "git", "commit", "-qam", f"dvc: commit experiment {'ab' * 32}")
    page = "\n".join(report(root, tmp_path / "x.html", "workspace", "--compare", "better"))
    assert page.index("binary, protocol case") < page.index("binary, protocol image")
    assert page.count("all its figures are too high for new ones.") == 1
    assert "dvc: commit experiment abababa)" in page


def test_a_printed_report_tells_what_its_models_cost_on_this_machine(project: Path, tmp_path: Path) -> None:
    root = shutil.copytree(project, tmp_path / "project", symlinks=True)
    Meter(root).end("train", "binary-case", ["poor"])
    assert any("Not known: these models" in line for line in report(root, tmp_path / "x.html", "better"))
    Meter(root).end("train", "binary-case", ["good"], ["H100"])
    (row,) = (line for line in report(root, tmp_path / "x.html", "better") if line.startswith("binary-case"))
    assert re.fullmatch(r"binary-case train 0 s 0 s [\d,]+ MB (not known|[\d.]+ Wh) H100", row)


def test_a_printed_report_names_the_commit_that_records_it_or_says_that_none_does(
    project: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(project, tmp_path / "project", symlinks=True)
    described = call(root, "git", "describe", "--always", "--long", "--tags", "better").stdout.strip()
    (line,) = (line for line in report(root, tmp_path / "x.html", "better") if "Revision" in line)
    assert f"good Revision: {described} (" in line
    assert "Its dvc.lock records this report" in line
    (root / "params.yaml").write_text(PARAMS % "poor1")
    call(root, "dvc", "repro", "-q")
    (line,) = (line for line in report(root, tmp_path / "x.html") if "Revision" in line)
    assert "poor1 Revision: none. The last commit, " in line
    assert "have changed since" not in line
    (root / "metrics/binary-case/details.json").write_text("{}")
    (line,) = (line for line in report(root, tmp_path / "x.html") if "Revision" in line)
    assert line.endswith("The files of metrics/ have changed since it was made: run `dvc repro report`.")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--compare", "bettr"], 2, "there is no revision or experiment 'bettr'. Did you mean 'better'?"),
        (["main", "--compare", "poor"], 2, "poor and main are one and the same run"),
        (["begun", "--compare", "main"], 3, "begun has no metrics/binary-case/details.json: its dvc.lock does not"),
        (["begun"], 3, "begun has no plots/report.html: its dvc.lock does not name it"),
        (["main", "--out", "."], 2, ". is a folder. Name a file."),
    ],
)
def test_a_page_that_cannot_be_written_is_one_sentence(
    project: Path, arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(project, "--out", str(tmp_path / "x.html"), *arguments, verb="report") == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
