"""The command line as its users meet it: help that fits a screen, examples, errors, completion."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command

from biopsy.cli import app, command
from biopsy.core.errors import ParamsError

VERBS = get_command(app)
NAMES = list(VERBS.commands)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown_by(capsys: pytest.CaptureFixture, *words: str) -> str:
    command(words)
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", NAMES)
def test_the_help_of_each_verb_fits_a_screen_and_ends_with_two_examples(
    verb: str, capsys: pytest.CaptureFixture
) -> None:
    shown = shown_by(capsys, verb, "--help")
    assert len(shown.splitlines()) <= 40
    examples = shown.split("examples:\n")[1].splitlines()
    assert len(examples) >= 2
    assert f"  biopsy {verb} " in f"{examples[0]} "
    assert shown_by(capsys, verb, "-h") == shown


@pytest.mark.parametrize("verb", NAMES)
def test_every_example_can_be_typed_and_names_presets_that_there_are(verb: str, capsys: pytest.CaptureFixture) -> None:
    conf = Path(__file__).parents[2] / "conf"
    for line in shown_by(capsys, verb, "--help").split("examples:\n")[1].splitlines():
        if "biopsy " not in line:
            continue
        typed = re.split(r" [|>#] ", line)[0]
        words = shlex.split(typed[typed.index("biopsy ") :])[1:]
        VERBS.commands[words[0]].make_context(words[0], words[1:])
        for group, names in re.findall(r"\+?\b(experiment|augment|data|model|labels|tune|train)=([\w,]+)", typed):
            assert not [name for name in names.split(",") if not (conf / group / f"{name}.yaml").is_file()], line
        if verb in ("show-augment", "tune") and not words[1].startswith("-"):
            assert (conf / "experiment" / f"{words[1]}.yaml").is_file(), line


def test_without_a_verb_it_prints_what_there_is_a_line_for_each(capsys: pytest.CaptureFixture) -> None:
    lines = shown_by(capsys).splitlines()
    said = {line.split()[0]: line for line in lines[lines.index("Commands:") + 1 :]}
    assert list(said) == NAMES
    assert not [line for line in said.values() if line.endswith("...")], "cut off at 80 columns"
    using = [line for name, line in said.items() if name in ("predict", "evaluate", "explain", "serve")]
    assert all("research use only" in line for line in using)


def test_it_says_which_version_it_is(capsys: pytest.CaptureFixture) -> None:
    assert shown_by(capsys, "--version") == f"biopsy {version('biopsy')}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predikt"], "No such command 'predikt'. Did you mean 'predict'? `biopsy --help` shows what there is."),
        (["--modle", "x"], "No such option: --modle. `biopsy --help` shows what there is."),
        (["predict"], "Missing argument 'INPUT'. `biopsy predict --help` shows what there is."),
        (["predict", "a", "--modle", "x"], "No such option: --modle (Possible options: --model). `biopsy predict -"),
        (["predict", "a", "--by", "x"], "Invalid value for '--by': 'x' is not one of 'case', 'slide'. `biopsy pre"),
        (["predict", "a", "--mpp", "x"], "Invalid value for '--mpp': .*number"),
        (["evaluate", "--csv"], "Option '--csv' requires an argument. `biopsy evaluate --help`"),
        (["convert-weights", "a", "b"], "Missing option '--architecture'. `biopsy convert-weights --help`"),
        (["launch"], "Missing option '--render'. Choose from: sky, slurm, k8s. `biopsy launch --help` shows"),
        (["report", "--explain", "--compare", "x"], "--explain is for the report of one run. Leave --explain or --co"),
    ],
)
def test_what_cannot_be_typed_is_one_sentence(words: list[str], told: str) -> None:
    with pytest.raises(ParamsError, match=told if ".*" in told else re.escape(told)) as error:
        command(words)
    assert "\n" not in str(error.value)


def test_an_error_has_an_exit_code_and_ctrl_c_keeps_what_the_verb_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run = [sys.executable, "-m", "biopsy.cli"]
    wrong = subprocess.run([*run, "list", "modles"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (ParamsError.exit_code, "")
    assert wrong.stderr.startswith("error: Invalid value for 'kind'")

    def stops(*_: object) -> None:
        raise KeyboardInterrupt("the rows so far are in x.csv.")

    monkeypatch.setattr("biopsy.experiments.results.describe_results", stops)
    with pytest.raises(KeyboardInterrupt, match="the rows so far"):
        command(["results"])


def test_words_that_begin_with_a_dash_are_values_where_a_value_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("biopsy.serving.evaluate.run.LabelledImages", lambda *asked: seen.append(asked[-1]))
    monkeypatch.setattr("biopsy.serving.evaluate.run.evaluate_elsewhere", lambda *_: 0)
    command(["evaluate", "--model", ".", "--csv", "x.csv", "--map", "-1=benign", "--map=+1=malignant"])
    assert seen == [["-1=benign", "+1=malignant"]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_options_and_choices(shell: str) -> None:
    def ask(words: str) -> list[str]:
        asked = {
            "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_BIOPSY_COMPLETE": f"complete_{shell}",
        }  # fmt: skip
        run = [sys.executable, "-c", "from biopsy.cli import main; main()"]
        found = subprocess.run(run, capture_output=True, text=True, check=False, env=os.environ | asked)
        return re.findall(r"(?:^|\")((?:--)?[\w-]+)", found.stdout, re.MULTILINE)

    assert "predict" in ask("biopsy pre")
    assert "list" not in ask("biopsy pre")
    assert "--overlap" in ask("biopsy predict --ov")
    assert {"case", "slide"} <= set(ask("biopsy predict --by s") + ask("biopsy predict --by c"))


@pytest.mark.parametrize(
    "words",
    [["predict", "s3://b/images"], ["predict", "a.png", "--out", "gs://b/o.csv"], ["report", "--out=s3://b/r.html"]],
)
def test_an_address_of_a_store_does_not_become_a_folder_of_this_machine(words: list[str]) -> None:
    with pytest.raises(
        ParamsError, match=r"^(s3|gs)://b/\S+ is in an object store\. Name a file or folder of this machine"
    ):
        command(words)
