"""A hash of a piece of the code, so that results of an earlier version are not taken for those of this one.

The hash is of the parsed source: comments, layout and the place of the checkout do not count. Another version of Python
may parse the same source differently; then everything is made again, which is only slower.
"""

import ast
import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path


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
            files |= {f"{name}/{p.relative_to(path.parent).as_posix()}": p for p in path.parent.rglob("*.py")}
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
    """Hash a parsed source. Cached: all of ours take half a second, and the tests ask at each training."""
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()
