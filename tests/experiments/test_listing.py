"""`biopsy list`: all that there is, one line each, without TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from biopsy.cli import command
from biopsy.core.errors import ParamsError
from biopsy.experiments.compose import compose
from biopsy.experiments.listing import list_kinds
from biopsy.experiments.runs import Run
from biopsy.networks.model_file import write_card
from cards import CARD
from conftest import ROOT
from tiny_onnx import DARK, write_onnx


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    command(["list", *arguments])
    return capsys.readouterr().out.splitlines()


def test_every_preset_is_a_line_with_the_words_it_opens_with(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "presets", "--root", str(ROOT))
    group, found = "", {}
    for line in lines:
        if line.startswith("presets of "):
            group = line.split(" ")[2].rstrip(":")
        else:
            name, _, words = line.strip().partition(" ")
            found[f"{group}/{name}"] = words.strip()
    paths = {f"{path.parent.name}/{path.stem}" for path in (ROOT / "conf").glob("*/*.yaml")}
    assert set(found) == paths
    assert [name for name, words in found.items() if len(words) < 10 or "dvc exp run" in words or "@" in words] == []
    assert found["experiment/adopt"] == "ADOPT, an Adam that converges with any beta_2, instead of Adam."


def test_a_model_has_its_figures_where_they_are_of_exactly_these_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"test": {"macro_f1": 0.8, "f1_low": 0.61, "f1_high": 0.9}, "images": 30, "cases": 9}
    write_onnx(tmp_path / "exports/known.onnx", figures=figures)
    write_onnx(tmp_path / "exports/unknown.onnx", DARK.model_copy(update={"synthetic": False}))
    (tmp_path / "exports/torn.onnx").write_bytes((tmp_path / "exports/known.onnx").read_bytes()[:-5])
    metrics = tmp_path / "metrics/multiclass-case"
    metrics.mkdir(parents=True)
    (metrics / "test.json").write_text('{"macro_f1": 0.5, "f1_low": null, "f1_high": null}')
    tested = {"sha256": "a" * 64, "temperature": 1.0}
    (metrics / "details.json").write_text(json.dumps({"cases": 8, "threshold": 0.5, "models": [tested]}))
    changes = {
        "same": {},
        "other": {"model_sha256": "b" * 64},
        "hotter": {"temperature": 2.0},
        "cut": {"threshold": 0.4},
    }
    for name, change in changes.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        write_card(tmp_path / "models" / name, CARD.model_copy(update={"model_sha256": "a" * 64, **change}))
    (tmp_path / "models/broken").mkdir()
    pooled, folds = tmp_path / "metrics/multiclass-image-cv3", tmp_path / "models/multiclass-image-cv3"
    pooled.mkdir()
    (pooled / "test.json").write_text('{"macro_f1": 0.5}')
    (pooled / "details.json").write_text(json.dumps({"models": [{**tested, "fold": "1-1"}]}))
    for fold, sha in (("1-1", "a" * 64), ("1-2", "b" * 64)):
        (folds / fold).mkdir(parents=True)
        update = {"protocol": "image-cv3", "fold": fold, "model_sha256": sha, "temperature": 3.0}
        write_card(folds / fold, CARD.model_copy(update=update))
    mean = {"protocol": "image-cv3", "task": "multiclass", "members": ["a" * 64]}
    write_onnx(tmp_path / "exports/mean.onnx", DARK.model_copy(update=mean))
    (tmp_path / "models/broken/model.json").write_text("[")
    told = dict(line.split(maxsplit=1) for line in listed(capsys, "models", "--root", str(tmp_path))[1:])
    none = "multiclass, protocol case (honest), synthetic: no test figures of exactly these bytes"
    assert told == {
        "models/broken": "model.json cannot be read: `biopsy info` says why",
        "models/cut": none,
        "models/hotter": none,
        "models/other": none,
        "models/multiclass-image-cv3/1-1": (
            "multiclass, protocol image-cv3 (leaks), synthetic: a fold, tested with the others: "
            "metrics/multiclass-image-cv3/test.json"
        ),
        "models/multiclass-image-cv3/1-2": none.replace("case (honest)", "image-cv3 (leaks)"),
        "models/same": "multiclass, protocol case (honest), synthetic: macro-F1 0.500, 8 cases",
        "exports/known.onnx": "binary, protocol case (honest), synthetic: macro-F1 0.800 (0.610-0.900), 9 cases",
        "exports/mean.onnx": (
            "multiclass, protocol image-cv3 (leaks), synthetic: the mean of 1 folds, each tested alone: "
            "metrics/multiclass-image-cv3/test.json"
        ),
        "exports/torn.onnx": "cannot be used: `biopsy predict` says why",
        "exports/unknown.onnx": "binary, protocol case (honest): no test figures of exactly these bytes",
    }


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, '{"macro_f1": [1]}', '{"macro_f1": 0.5, "f1_low": "x"}'])
def test_a_model_whose_test_figures_were_edited_is_listed_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    metrics, folder = tmp_path / "metrics/multiclass-case", tmp_path / "models/m"
    for path in (metrics, folder):
        path.mkdir(parents=True)
    tested = {"sha256": "a" * 64, "temperature": 1.0}
    (metrics / "test.json").write_text(content)
    (metrics / "details.json").write_text(json.dumps({"cases": 8, "threshold": 0.5, "models": [tested]}))
    write_card(folder, CARD.model_copy(update={"model_sha256": "a" * 64}))
    (line,) = listed(capsys, "models", "--root", str(tmp_path))[1:]
    assert line.endswith(" multiclass, protocol case (honest), synthetic: no test figures of exactly these bytes")


def test_the_lock_that_emacs_leaves_beside_an_open_preset_is_no_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "conf/experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# Mine.\n")
    (folder / ".#mine.yaml").symlink_to("me@machine.1:2")
    assert listed(capsys, "presets", "--root", str(tmp_path))[1:] == ["  mine  Mine."]
    monkeypatch.setattr("biopsy.experiments.runs.shown_runs", lambda _: [Run("baseline", 0, {"binary-case": {}})])
    command(["experiments", "--root", str(tmp_path)])
    assert "`mine`" in capsys.readouterr().out
    with pytest.raises(ParamsError, match=r"no experiment 'other' in .* There are mine\.$"):
        compose("other", (), tmp_path)


def test_an_empty_folder_has_no_presets_and_no_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("presets", "models"):
        (line,) = listed(capsys, kind, "--root", str(tmp_path))
        assert "none here" in line


def test_a_report_is_printed_without_what_only_its_stage_needs() -> None:
    code = "import sys, biopsy.experiments.print_report; assert not {'pandas', 'scipy', 'sklearn'} & set(sys.modules)"
    surroundings = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=surroundings, check=True)


def test_registries_are_listed_whole_and_without_keras() -> None:
    code = (
        "import sys; from biopsy.cli import command\n"
        "command(['list', 'presets']); command(['list', 'models'])\n"
        "assert not {'numpy', 'pandas', 'keras'} & set(sys.modules), 'too slow'\n"
        "command(['list', 'augmentations']); command(['list', 'backbones'])\n"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules), 'too slow'\n"
        "from biopsy.training.augment.registry import OPERATIONS as a\n"
        "from biopsy.networks.backbones.registry import BACKBONES as b\n"
        "print('names', *a, *b)\n"
    )
    surroundings = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, names = done.stdout.splitlines()
    shown = {line.strip().partition(" ")[0].partition("=")[0] for line in lines if line.startswith("  ")}
    assert set(names.split(" ")[1:]) <= shown


def test_a_terminal_gets_lines_of_its_width_and_a_program_gets_them_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`biopsy list presets | grep SCALE` saw the first 100 columns alone."""
    whole = listed(capsys, "presets", "--root", str(ROOT))
    cut = list(list_kinds("presets", ROOT, 60))
    assert not any(line.endswith("…") for line in whole)
    assert all(len(line) <= 60 for line in cut if line.startswith("  "))
    assert sum(line.endswith("…") for line in cut) > 10
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert listed(capsys, "presets", "--root", str(ROOT)) == cut


def test_an_augmentation_is_written_so_that_a_shell_leaves_its_braces_alone(capsys: pytest.CaptureFixture[str]) -> None:
    heading, *entries = listed(capsys, "augmentations")
    start, quote, rest = heading.partition("'")
    name, _ = next(line.split(maxsplit=1) for line in entries if "{" in line)
    told = f"echo {start.partition(': ')[2]}{quote}{rest.replace('NAME=STRENGTH', name)}"
    done = subprocess.run(["bash", "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == f"dvc exp run -S ++augment.every.{name}\n"
