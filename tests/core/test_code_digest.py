"""The name of a piece of code: what must change it, what must not, and what makes all of it that a stage runs."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biopsy.core.code_digest import _meaning, code_digest
from biopsy.core.params import read_params
from conftest import ROOT
from tiny import make_project

NAMES = ("biopsy.training.augment", "biopsy.images.resize")
Edit = Callable[..., None]


def test_it_does_not_depend_on_the_place_of_the_checkout_nor_on_what_is_imported(tmp_path: Path) -> None:
    elsewhere = tmp_path / "another place"
    shutil.copytree(ROOT / "biopsy", elsewhere / "biopsy", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"from biopsy.core.code_digest import *; import biopsy; print(biopsy.__file__); print(code_digest(*{NAMES}))"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(
        command, cwd=elsewhere, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=True
    )
    file, digest = printed.stdout.splitlines()
    assert Path(elsewhere, file).is_relative_to(elsewhere)
    assert digest == code_digest(*NAMES) == code_digest(*reversed(NAMES))


def test_every_module_that_is_named_counts_and_no_other(edit_code: Edit) -> None:
    digests = {code_digest(*NAMES)}
    named = [
        "biopsy/images/resize.py",
        *(str(p.relative_to(ROOT)) for p in (ROOT / "biopsy/training/augment").glob("*.py")),
    ]
    assert len(named) > 10
    for name in named:
        edit_code(name)
        digests.add(code_digest(*NAMES))
    assert len(digests) == 1 + len(named)
    edit_code("biopsy/images/stain.py")
    edited = code_digest(*NAMES)
    edit_code("biopsy/images/resize.py", b"  # a comment, and nothing that runs\n\n")
    assert {edited, code_digest(*NAMES)} < digests


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("x = 1", "x  =  (1)  # the same", True),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = True", False),
        ("def f(a, b=1): return a", "def f(a, b=2): return a", False),
        ("def f(a, b): return a", "def f(a, *, b): return a", False),
        ("def f(a): return a < 1", "def f(a): return a <= 1", False),
        ("def f(a): return a.real", "def f(a): return a.imag", False),
        ("class A:\n def f(s): return [x + 1 for x in s]", "class A:\n def f(s): return [x + 2 for x in s]", False),
        ("def f(a: int): ...", "def f(a: str): ...", False),
        ("def f():\n try: g()\n except OSError: h()", "def f():\n try: g()\n except ValueError: h()", False),
    ],
)  # fmt: skip
def test_what_the_code_does_counts_and_not_how_it_is_written(before: str, after: str, same: bool) -> None:
    assert (_meaning(before.encode()) == _meaning(after.encode())) is same


def test_the_order_of_a_set_does_not_count() -> None:
    source = "def f(x): return x in {'adam', 'sgd', 'lion', 'adopt', 'adamw'}"
    code = f"from biopsy.core.code_digest import _meaning; print(_meaning({source.encode()!r}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in "123"
    }  # fmt: skip
    assert len(found) == 1


def test_a_module_that_moves_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files that swap their names hold the same bytes together, and are other code."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "scratch_package"
    package.mkdir()
    for name, text in (("__init__", ""), ("a", "x = 1"), ("b", "x = 2")):
        (package / f"{name}.py").write_text(text)
    before = code_digest("scratch_package")
    (package / "a.py").write_text("x = 2")
    (package / "b.py").write_text("x = 1")
    assert code_digest("scratch_package") != before


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        code_digest("biopsy.nowhere")


@pytest.mark.slow
def test_a_training_goes_on_with_what_the_same_code_has_saved_and_with_nothing_else(
    tmp_path: Path, set_params: Callable[..., Path], edit_code: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the stage imports, and its own file: a loss edited between kill and rerun is another training."""
    make_project(tmp_path)
    params = read_params(set_params({"resize.size": 32}))
    stage = runpy.run_path(str(ROOT / "stages/train.py"))["train"]

    def fit(*_: Any, fingerprint: str, **__: Any) -> None:
        raise InterruptedError(fingerprint)

    def fingerprint(edited: str) -> str:
        edit_code(edited)
        with pytest.raises(InterruptedError) as told:
            stage(params, "binary", "case", tmp_path)
        return str(told.value)

    monkeypatch.setattr("biopsy.training.train_model.fit", fit)
    same = {fingerprint("stages/resize.py"), fingerprint("stages/evaluate.py")}
    assert len(same) == 1
    edited = {
        fingerprint(name)
        for name in ("biopsy/training/losses.py", "biopsy/networks/backbones/cnn.py", "stages/train.py")
    }
    assert len(edited | same) == 4
