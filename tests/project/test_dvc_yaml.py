"""dvc.yaml lists for each stage exactly the modules that it imports, so that an edit makes the right stages stale."""

import ast
from pathlib import Path

import pytest
import yaml

from conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def module_file(name: str) -> Path | None:
    """The file of a module of ours, or None. Package files that hold no code are left out: nothing depends on them."""
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file() and ast.parse(path.read_text()).body[1:]:
            return path
    return None


def imports(path: Path) -> set[Path]:
    """The files of biopsy that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = {module_file(name) for name in names if name.split(".")[0] == "biopsy"}
    return {p for p in found if p and p.name != "__init__.py"}


def closure(path: Path) -> set[Path]:
    """A file's imports, and theirs, and so on."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        new = imports(waiting.pop()) - seen
        seen |= new
        waiting += new
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_script_and_exactly_the_modules_it_imports(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py") or dep.startswith("biopsy/")}
    needed = {str(p.relative_to(ROOT)) for p in closure(ROOT / "stages" / f"{stage}.py")} | {f"stages/{stage}.py"}
    code = {dep for dep in listed if dep.endswith(".py")}
    assert code == needed


def test_each_stage_has_its_script_and_each_script_its_stage() -> None:
    assert {p.stem for p in (ROOT / "stages").glob("*.py")} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_stay_in_place_until_the_stage_replaces_them(stage: str) -> None:
    outputs = [out for kind in ("outs", "metrics", "plots") for out in STAGES[stage].get(kind, [])]
    assert all(next(iter(out.values()))["persist"] for out in outputs)


def test_no_module_of_the_library_imports_a_stage() -> None:
    for path in (ROOT / "biopsy").rglob("*.py"):
        assert "stages" not in {n.split(".")[0] for n in _imported_names(path)}, path


def _imported_names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return plain | {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
