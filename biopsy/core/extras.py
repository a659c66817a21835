"""Packages that only some need: the extras of pyproject.toml."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from biopsy.core.errors import MachineError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which extra holds a package that is imported in the block and is not there, as `MachineError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MachineError(
            f"{sys.executable} has no package {error.name}. Install it in the project's folder: "
            f"`pip install -e '.[{name}]'`."
        ) from None
