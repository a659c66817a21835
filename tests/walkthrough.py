"""Run the commands that a page of docs/ prints and hold their output against what the page promises.

A page's ```console blocks are one session. `$ command` is run by bash; the lines below it are its output, where `...`
stands for any text, on a line of its own for any lines. Runs of spaces count as one. A command with no lines below it
must succeed, whatever it prints. Lines that start with `ERROR:` or `error:` promise that the command fails and says so.
"""

import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from scratch import ROOT, warm


@dataclass
class Step:
    """One command of a page, and the output that the page shows for it."""

    command: str
    promised: list[str] = field(default_factory=list)

    def fails(self) -> bool:
        return any(line.lower().startswith("error:") for line in self.promised)


def steps(page: str, section: str = "") -> list[Step]:
    """Every command of a page in `docs/`, or of the section whose heading starts with a text, in order."""
    text, found = (ROOT / "docs" / page).read_text(), list[Step]()
    if section:
        text = re.split(r"^##+ ", text.split(f"# {section}", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            else:
                found[-1].promised.append(line)
    return found


def pattern(promised: list[str]) -> str:
    """The regular expression of promised lines."""
    lines = []
    for line in promised:
        words = re.escape(squeeze(line)).replace(re.escape("..."), ".*")
        lines.append("(?:[^\n]*\n)*?" if line.strip() == "..." else words + "\n")
    return "".join(lines)


def squeeze(text: str) -> str:
    """Drop what a screen's width decides: runs of spaces, spaces at the ends of lines."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def follow(
    page: str, folder: Path, section: str = "", swap: Mapping[str, str] = MappingProxyType({}), **more: str
) -> dict[str, str]:
    """Run a page from `folder` on, `cd` included; return each command's output.

    `swap` replaces addresses that the page invents by real ones; `more` goes into the environment.
    """
    printed = {}
    for step in steps(page, section):
        for invented, real in swap.items():
            step.command = step.command.replace(invented, real)
        words = shlex.split(step.command)
        if words[0] == "cd":
            folder = (folder / words[1]).resolve()
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", step.command], cwd=folder, env=warm(folder, **more),
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        said = f"$ {step.command}\n{done.stdout}{done.stderr}"
        assert (done.returncode != 0) == step.fails(), said
        assert "Traceback" not in said, said
        output = squeeze(done.stdout + done.stderr if step.fails() else done.stdout).strip("\n") + "\n"
        if step.promised:
            assert re.fullmatch(pattern(step.promised), output), f"{said}\ndoes not read as promised:\n{step.promised}"
        printed[step.command] = done.stdout
    assert printed, f"docs/{page} prints no command"
    return printed
