"""A hash of a piece of the code, so that results of an earlier version are not taken for those of this one.

The hash is of the compiled source: comments, layout and the place of the checkout do not count. Another version of
Python compiles the same source differently; then everything is made again, which is only slower.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType


def code_digest(*names: str) -> str:
    """Hash the source of modules, and of packages with all that lies in them.

    Parameters
    ----------
    names
        Such as 'biopsy.images.resize' and 'biopsy.training.augment'; they need not be imported, in any order.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ModuleNotFoundError
        There is no such module.
    """
    files: dict[str, Path] = {}
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"there is no module {name}")
        path = Path(spec.origin)
        files[name] = path
        if spec.submodule_search_locations is not None:
            files |= {f"{name}/{p.relative_to(path.parent).as_posix()}": p for p in path.parent.rglob("[!.]*.py")}
    return _digest(files)


def loaded_digest(script: Path) -> str:
    """Hash the source of all modules of ours that this process has imported, and of the script that it runs.

    Parameters
    ----------
    script
        The file of a stage, which is not a module of the package.

    Returns
    -------
    str
        64 hexadecimal digits; the same in each run of a stage if it has imported all of its modules before.
    """
    loaded = {name: module.__file__ for name, module in sys.modules.copy().items() if name.split(".")[0] == "biopsy"}
    return _digest({name: Path(file) for name, file in loaded.items() if file} | {script.name: script})


def _digest(files: Mapping[str, Path]) -> str:
    found = hashlib.sha256()
    for name, path in sorted(files.items()):
        found.update(f"{name}\n{_meaning(path.read_bytes())}\n".encode())
    return found.hexdigest()


@cache
def _meaning(source: bytes) -> str:
    """Hash what a source compiles to, which takes a third of the time of hashing its syntax tree."""
    found = hashlib.sha256()
    for part in _parts(compile(source, "", "exec", dont_inherit=True)):
        found.update(repr(part).encode())
    return found.hexdigest()


def _parts(code: CodeType) -> Iterator[object]:
    """Yield all of a code object that decides what it does, and that of the functions in it; no line numbers."""
    yield code.co_code, code.co_exceptiontable, code.co_flags, code.co_names, code.co_varnames, code.co_name
    yield code.co_freevars, code.co_cellvars, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        else:  # the order of a set of text differs between two runs
            yield type(constant), sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
