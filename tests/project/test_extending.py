"""docs/extending.md is true: what it adds is added as printed, runs, and keeps the project's own rules."""

import re
import subprocess
import sys
from pathlib import Path

from scratch import ROOT, call, clone, narrow
from walkthrough import follow

PAGE = "extending.md"


def write_files(root: Path) -> list[str]:
    """Write the page's files and apply its diffs; return their paths."""
    page, written = (ROOT / "docs" / PAGE).read_text(), []
    for name, content in re.findall(r"^```(?:python|yaml) (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (root / name).write_text(content)
        written.append(name)
    for diff in re.findall(r"^```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        subprocess.run(["git", "apply", "-"], cwd=root, input=diff, text=True, check=True)
    return written


def test_the_three_additions_run_as_printed_and_pass_the_projects_checks(origin: Path, tmp_path: Path) -> None:
    root = clone(origin, tmp_path)
    narrow(root, "case")
    names = write_files(root)
    assert len(names) == 6
    follow(PAGE, root)
    assert (root / "gamma.png").is_file()
    call(root, "ruff", "format", "--check", *(name for name in names if name.endswith(".py")))
    call(
        root,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/project/test_rooms.py",
        "tests/training/test_augment.py",
        "tests/project/test_conf.py",
        "-k",
        "not composed_default",  # the last experiment has left its own in params.yaml
    )
