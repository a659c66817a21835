"""docs/compare.md, command by command, and what it says of equal files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scratch import UNDRAWN, call, clone, commit, set_params
from walkthrough import follow


@pytest.fixture(scope="module")
def printed(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two people with a git server between them; the page is followed by the first."""
    base = tmp_path_factory.mktemp("compare")
    project = clone(origin, base, narrow=True)
    call(base, "git", "init", "-q", "--bare", "-b", "main", "server.git")
    call(project, "git", "remote", "set-url", "origin", f"file://{base}/server.git")
    call(project, "git", "push", "-q", "origin", "main")
    call(base, "git", "clone", "-q", f"file://{base}/server.git", "colleague")
    return follow("compare.md", project, **UNDRAWN)


def test_every_command_of_the_page_does_what_it_promises(printed: dict[str, str]) -> None:
    assert len(printed) > 20


def test_what_is_compared_fits_100_columns(printed: dict[str, str]) -> None:
    tables = [text for command, text in printed.items() if " diff " in command or "exp show" in command]
    assert len(tables) == 4
    assert max(len(line) for text in tables for line in text.splitlines() if "file://" not in line) <= 100


def test_the_plots_page_holds_both_revisions_of_each_curve(printed: dict[str, str]) -> None:
    file = Path(printed["dvc plots diff main -o dvc_plots"].strip().removeprefix("file://"))
    page = file.read_text()
    assert "binary, protocol case: ROC" in page
    assert '"rev": "main"' in page
    assert '"rev": "workspace"' in page
    pictures = {path.name for path in (file.parent / "static").iterdir()}
    assert {f"{side}_plots_binary-case_train_curves.png" for side in ("main", "workspace")} <= pictures


def test_a_conflict_in_the_lock_is_settled_by_the_commands_of_the_page(origin: Path, tmp_path: Path) -> None:
    """Both sides ran `evaluate` with a parameter of theirs; the merged parameters are neither's."""
    project = clone(origin, tmp_path, narrow=True)
    call(project, "git", "branch", "theirs")
    for branch, change in (("main", {"evaluate__digits": 4}), ("theirs", {"evaluate__digits": 5})):
        call(project, "git", "switch", "-q", branch)
        call(project, "dvc", "checkout", "-q")
        set_params(project, **change)
        call(project, "dvc", "repro", "-q", **UNDRAWN)
        commit(project, branch)
    call(project, "git", "switch", "-q", "main")
    assert "CONFLICT" in call(project, "git", "merge", "theirs", check=False).stdout
    call(project, "git", "checkout", "--ours", "params.yaml", "dvc.lock", "metrics")
    call(project, "dvc", "checkout", "-q")
    set_params(project, evaluate__digits=5)
    printed = call(project, "dvc", "repro", **UNDRAWN).stdout
    assert [line for line in printed.splitlines() if line.startswith("Running")] == [
        "Running stage 'evaluate@binary-case':",
        "Running stage 'export@binary-case':",
        "Running stage 'report':",
    ]
    commit(project, "merged")
    assert call(project, "dvc", "status").stdout == "Data and pipelines are up to date.\n"


def test_two_clones_at_different_paths_write_the_same_lock(origin: Path, tmp_path: Path) -> None:
    """All of the data stages and one training run again, in a folder of another name; the lock stays as it is."""
    project = clone(origin, tmp_path / "an other path")
    before = yaml.safe_load((project / "dvc.lock").read_text())
    call(project, "dvc", "repro", "--force", "--no-run-cache", "train@binary-case")
    assert yaml.safe_load((project / "dvc.lock").read_text()) == before
    assert call(project, "git", "status", "--porcelain").stdout == ""
