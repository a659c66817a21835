"""Short commands: what they print, and a sentence where they cannot."""

from pathlib import Path

import pytest

from biopsy.core.errors import DataError, MachineError
from biopsy.experiments.shell import output, output_or_none


def test_a_command_returns_what_it_prints_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "ü.txt").write_text("x")
    assert output("ls", cwd=tmp_path) == "ü.txt\n"
    assert output_or_none("ls", cwd=tmp_path) == "ü.txt\n"
    assert output("printf", r"caf\351", cwd=tmp_path) == "caf\ufffd"  # a message of git need not be UTF-8


@pytest.mark.parametrize(
    ("command", "folder", "kind", "sentence"),
    [
        (("dvcc", "exp"), ".", MachineError, "dvcc is not on the PATH. Activate the environment."),
        (("ls",), "gone", DataError, "`ls` cannot run in gone, which is not a folder."),
        (("git", "show", "HEAD"), ".", DataError, "`git show HEAD` failed: fatal: not a git repository"),
        (("git", "show", "HEAD"), ".", DataError, ". Run this in the project's folder, or name that with --root."),
        (("sh", "-c", "echo first; echo 'ERROR: why' >&2; echo last >&2; exit 3"), ".", DataError, "failed: why"),
        (
            ("sh", "-c", "echo 'ERROR: unexpected error - Git user name and email must be configured' >&2; exit 3"),
            ".",
            DataError,
            "must be configured: `git config --global user.name NAME; git config --global user.email ADDRESS`",
        ),
        (("sh", "-c", "exit 3"), ".", DataError, "failed: exit code 3"),
    ],
)
def test_a_command_that_fails_is_one_sentence_or_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    folder: str,
    kind: type[Exception],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(kind) as error:
        output(*command, cwd=Path(folder))
    assert sentence in str(error.value)
    assert output_or_none(*command, cwd=Path(folder)) is None
