"""The rooms of biopsy/ import in one direction, and dvc.yaml lists for each stage the rooms that it needs."""

import ast
from pathlib import Path

import pytest
import yaml

from biopsy.core.owned import JUNK
from conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ROOMS = ["core", "images", "tables", "sources", "networks", "training", "evaluation", "serving", "experiments"]
ORDER = [*ROOMS, "cli"]  # the command line stands before the rooms: it imports all, none imports it
LIBRARY = ROOT / "biopsy"
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in LIBRARY.rglob("*.py")}
PACKAGES = sorted(p.parent for p in LIBRARY.rglob("__init__.py") if p.parent != LIBRARY)


def imports(path: Path) -> set[str]:
    """The modules of biopsy that a file imports, anywhere in it; a package stands for its `__init__`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_modules":
            package = ".".join(path.parent.relative_to(ROOT).parts)
            names |= {name for name in MODULES if name.rpartition(".")[0] == package}
    packages = {name.rpartition(".")[0] for name in names}
    found = (names | packages) - {"biopsy"}
    return {n for n in found if n in MODULES} | {f"{n}.__init__" for n in found if f"{n}.__init__" in MODULES}


def closure(path: Path) -> set[str]:
    """A file's imports, and theirs, and so on."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        new = imports(waiting.pop()) - seen
        seen |= new
        waiting += [MODULES[name] for name in new]
    return seen


def room(module: str) -> str:
    return module.split(".")[1]


def allowed(package: Path) -> list[str]:
    """The rooms that a package's docstring allows: its line `May import: core, tables.labels.`"""
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    line = next(line for line in doc.splitlines() if line.startswith("May import: "))
    text = line.removeprefix("May import: ").rstrip(".")
    words = ORDER[: ORDER.index(package.name)] if "every room above" in text else text.split(", ")
    return [] if text.startswith("nothing") else words


def test_there_are_nine_rooms_and_the_command_line() -> None:
    assert sorted(p.name for p in LIBRARY.iterdir() if (p / "__init__.py").exists()) == sorted(ORDER)


@pytest.mark.parametrize("module", [name for name in MODULES if len(name.split(".")) > 2])
def test_a_module_imports_from_rooms_above_its_own(module: str) -> None:
    above = ORDER[: ORDER.index(room(module)) + 1]
    assert {room(name) for name in imports(MODULES[module])} <= set(above)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_package_says_what_enters_what_leaves_and_imports_only_what_it_says(package: Path) -> None:
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    assert "In: " in doc
    assert "Out: " in doc
    own = ".".join(package.relative_to(ROOT).parts)
    open_to = [own, *(f"biopsy.{name}" for name in allowed(package))]
    # A room above may not need the package that encloses it, whose docstring holds no code.
    parents = {f"{'.'.join(own.split('.')[:i])}.__init__" for i in range(2, own.count(".") + 1)}
    for path in package.glob("*.py"):
        for name in imports(path) - parents:
            opened = any(name == door or name.startswith(f"{door}.") for door in open_to)
            enclosing = any(f"{door}.".startswith(name.removesuffix("__init__")) for door in open_to)
            assert opened or (name.endswith("__init__") and enclosing), f"{path} imports {name}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_script_and_the_rooms_it_needs(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("biopsy/", "stages/"))}
    assert f"stages/{stage}.py" in listed
    rooms = listed - {f"stages/{stage}.py"}
    assert all((ROOT / dep / "__init__.py").is_file() for dep in rooms), "deps are rooms, not modules"
    files = {MODULES[name] for name in closure(ROOT / "stages" / f"{stage}.py")}
    code = {str(p.relative_to(ROOT)) for p in files if p.name != "__init__.py"}
    homes = {path: [dep for dep in rooms if path.startswith(f"{dep}/")] for path in code}
    assert not {path for path, found in homes.items() if len(found) != 1}
    assert {dep for found in homes.values() for dep in found} == rooms


def test_each_stage_has_its_script_and_each_script_its_stage() -> None:
    assert {p.stem for p in (ROOT / "stages").glob("*.py")} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_stay_in_place_until_the_stage_replaces_them(stage: str) -> None:
    outputs = [out for kind in ("outs", "metrics", "plots") for out in STAGES[stage].get(kind, [])]
    assert all(next(iter(out.values()))["persist"] for out in outputs)


def test_no_module_of_the_library_imports_a_stage() -> None:
    for path in LIBRARY.rglob("*.py"):
        names = {n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module}
        assert "stages" not in {name.split(".")[0] for name in names}, path


def test_what_python_file_managers_and_editors_leave_beside_the_sources_changes_no_room() -> None:
    """Else a run, or a look into the folder, would make stages stale, and dvc.lock would fit no other clone."""
    assert {"__pycache__/", "*.py[cod]", ".#*", ".*.sw?", *JUNK} <= set((ROOT / ".dvcignore").read_text().split())
