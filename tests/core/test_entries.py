"""Misspelt names of entries are told by the first stage, without the libraries that the entries need."""

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biopsy.core import entries
from biopsy.core.code_digest import code_digest
from biopsy.core.errors import ParamsError
from conftest import ROOT

REGISTRIES = [
    (entries.BACKBONES, "biopsy.networks.backbones", "registry", "BACKBONES"),
    (entries.LOSSES, "biopsy.training.losses", "", "LOSSES"),
    (entries.OPERATIONS, "biopsy.training.augment", "registry", "OPERATIONS"),
    (entries.OPTIMIZERS, "biopsy.training.optimizers", "registry", "OPTIMIZERS"),
    (entries.STAINS, "biopsy.images.stains", "registry", "METHODS"),
    (entries.GRAMMARS, "biopsy.tables.labels", "grammars", "GRAMMARS"),
]


@pytest.mark.parametrize(("place", "package", "module", "registry"), REGISTRIES)
def test_the_names_in_the_source_are_those_of_the_registry(
    place: str, package: str, module: str, registry: str
) -> None:
    importlib.import_module(package)
    known = getattr(importlib.import_module(f"{package}.{module}".rstrip(".")), registry)
    assert sorted(entries.entry_names(place)) == sorted(known)


@pytest.mark.parametrize("stage", ["fetch", "ingest", "impute", "split", "resize", "stain"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.backbone": "mobilenetv3"}, "model.backbone must be one of .*Did you mean 'mobilenetv2'"),
        ({"train.optimizer": "adamm"}, "train.optimizer must be one of adam, .*Did you mean 'adam'"),
        ({"train.loss.name": "focall"}, "train.loss.name must be one of .*Did you mean 'focal'"),
        ({"stain.method": "macenco"}, "stain.method must be one of macenko, none, .*Did you mean 'macenko'"),
        ({"labels.grammar": "brekhis"}, "labels.grammar must be one of breakhis, null.*Did you mean 'breakhis'"),
        ({"augment.every": {"flpi": True}}, "augment.every.flpi: the name must be one of .*Did you mean 'flip'"),
        (
            {"augment.copies": {"binary": {"rot9": True}}},
            "augment.copies.binary.rot9: the name must be one of .*Did you mean 'rot90'",
        ),
    ],
)
def test_a_misspelt_name_stops_every_stage_before_training(
    stage: str,
    change: dict[str, Any],
    words: str,
    set_params: Callable[..., Path],
    run_stage: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    set_params(change)
    result = run_stage(stage, *(["--protocol", "case"] if stage == "stain" else []))
    assert result.returncode == ParamsError.exit_code
    assert re.search(words, result.stderr)


def test_names_that_are_not_written_out_are_left_to_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "LIBRARY", tmp_path)
    (tmp_path / "made.py").write_text('for name in NAMES:\n    register(Entry(name, "one of several"))\n')
    assert entries.entry_names("made.py") == ()


def test_the_lock_that_emacs_leaves_beside_an_open_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a link to nowhere, with the file's own ending."""
    monkeypatch.setattr(entries, "LIBRARY", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged/__init__.py").write_text('register(Entry("one"))\n')
    before = code_digest("plugged")
    (tmp_path / "plugged/.#__init__.py").symlink_to("me@machine.1:2")
    assert entries.entry_names("plugged") == ("one",)
    assert code_digest("plugged") == before


def test_the_check_needs_no_tensorflow() -> None:
    code = "import sys; from biopsy.core.entries import stage_params as f; f(); sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
