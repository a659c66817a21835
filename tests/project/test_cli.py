"""The command line as its users meet it: help that fits a screen, examples, completion."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from biopsy.cli import command, new_parser


def parsers() -> dict[str, argparse.ArgumentParser]:
    action = next(action for action in new_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.mark.parametrize("verb", parsers())
def test_the_help_of_each_verb_fits_a_screen_and_ends_with_two_examples(verb: str) -> None:
    shown = parsers()[verb].format_help()
    assert len(shown.splitlines()) <= 40
    examples = shown.split("examples:\n")[1].splitlines()
    assert len(examples) >= 2
    assert f"  biopsy {verb} " in f"{examples[0]} "


@pytest.mark.parametrize("verb", parsers())
def test_every_example_can_be_typed_and_names_presets_that_there_are(verb: str) -> None:
    conf = Path(__file__).parents[2] / "conf"
    for line in parsers()[verb].format_help().split("examples:\n")[1].splitlines():
        if "biopsy " not in line:
            continue
        typed = re.split(r" [|>#] ", line)[0]
        words = shlex.split(typed[typed.index("biopsy ") :])[1:]
        new_parser().parse_args(words)
        for group, names in re.findall(r"\+?\b(experiment|augment|data|model|labels|tune|train)=([\w,]+)", typed):
            assert not [name for name in names.split(",") if not (conf / group / f"{name}.yaml").is_file()], line
        if verb in ("show-augment", "tune") and not words[1].startswith("-"):
            assert (conf / "experiment" / f"{words[1]}.yaml").is_file(), line


def test_without_a_verb_it_prints_what_there_is(capsys: pytest.CaptureFixture) -> None:
    command([])
    shown = capsys.readouterr().out
    assert not [verb for verb in parsers() if verb not in shown]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_gets_a_completion_of_every_verb(shell: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    command(["completion", shell])
    script = capsys.readouterr().out
    assert not [verb for verb in parsers() if verb not in script]
    if shell == "bash":
        (tmp_path / "biopsy").write_text(script)
        asked = (
            f"source {tmp_path}/biopsy; COMP_WORDS=(biopsy pre); COMP_CWORD=1; _shtab_biopsy; echo ${{COMPREPLY[@]}}"
        )
        found = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        assert found.stdout.split() == ["predict"]
