"""docs/extending.md is true: what it adds is added as printed, runs, and keeps the project's own rules."""

import json
import re
import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

from scratch import ROOT, UNDRAWN, call, clone, copy_project, set_defaults
from walkthrough import follow

PAGE = "extending.md"


def write_files(root: Path) -> list[str]:
    """Write the page's files, whose images lie beside the project, and apply its diffs; return their paths."""
    page, written = (ROOT / "docs" / PAGE).read_text().replace("/tmp/mine", str(root.parent / "mine")), []
    for name, content in re.findall(r"^```(?:python|yaml) (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (root / name).write_text(content)
        written.append(name)
    for diff in re.findall(r"^```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        subprocess.run(["git", "apply", "-"], cwd=root, input=diff, text=True, check=True)
    return written


def test_a_backbone_and_an_augmentation_run_as_printed_and_pass_the_projects_checks(
    origin: Path, tmp_path: Path
) -> None:
    root = clone(origin, tmp_path, narrow=True)
    names = write_files(root)
    assert len(names) == 9
    follow(PAGE, root, "A backbone", **UNDRAWN)
    follow(PAGE, root, "An augmentation", **UNDRAWN)
    assert (root / "gamma.png").is_file()
    call(root, "ruff", "format", "--check", *(name for name in names if name.startswith("biopsy/")))
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
        "plain or gamma or test_rooms",
    )


def test_own_labels_with_and_without_a_scheme_of_ones_own_and_a_source_run_as_printed(tmp_path: Path) -> None:
    root = copy_project(tmp_path)
    set_defaults(root, protocols=["case"])
    presets_come_last(root)
    write_files(root)
    follow(PAGE, root, "A label scheme", **UNDRAWN)
    scheme = json.loads((root / "models/labels.json").read_text())["tasks"]
    assert [entry["name"] for entry in scheme["tissue"]["classes"]] == ["Normal", "Benign", "InSitu", "Invasive"]
    figures = json.loads((root / "metrics/tissue-case/details.json").read_text())
    assert figures["image_level"]["sensitivity"] is not None
    follow(PAGE, root, "A source", **UNDRAWN)
    assert json.loads((root / "data/raw/source.json").read_text())["source"] == "folders"
    assert (root / "metrics/label-image/test.json").is_file()


def presets_come_last(root: Path) -> None:
    """Undo what `scratch.set_defaults` does: there, the small values win over every preset, labels' tasks included."""
    config = OmegaConf.load(root / "conf/config.yaml")
    config.defaults = ["_self_", *(entry for entry in config.defaults if entry != "_self_")]
    OmegaConf.save(config, root / "conf/config.yaml")
