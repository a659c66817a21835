"""Packages whose modules register themselves: adding an entry is adding a file."""

import pkgutil
from importlib import import_module


def import_modules(package: str, path: list[str]) -> None:
    """Import every module of a package, from its `__init__`: `import_modules(__name__, __path__)`."""
    for found in pkgutil.iter_modules(path):
        import_module(f"{package}.{found.name}")
