"""Entries of one kind by name: backbones, augmentations, optimisers, losses. Each is registered where its code is."""

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from biopsy.core.errors import ParamsError, nearest


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """What parameters call it."""


E = TypeVar("E", bound=Named)


def unknown(key: str, name: str, known: Iterable[str]) -> str:
    """Say that the parameter `key` names an unknown entry, with the known names and the nearest one."""
    names = sorted(known)
    return f"{key} must be one of {', '.join(names)}. Got '{name}'.{nearest(name, names)}"


class Registry(dict[str, E], Generic[E]):
    """The entries of one kind, in the order of their registration.

    Parameters
    ----------
    kind
        What an entry is, for errors: 'backbone'.
    key
        The parameter that names one: 'model.backbone'.
    others
        Other values that the parameter may have, such as 'none'; only errors list them.
    """

    def __init__(self, kind: str, key: str, *others: str) -> None:
        super().__init__()
        self.kind, self.key, self.others = kind, key, others

    def add(self, entry: E) -> E:
        """Add an entry; a name that is taken is rejected."""
        if entry.name in self:
            raise ValueError(f"{self.kind} '{entry.name}' is registered already")
        self[entry.name] = entry
        return entry

    def find(self, name: str) -> E:
        """Return the entry called `name`. Raises `ParamsError`, which lists the names and the nearest one."""
        if name not in self:
            raise ParamsError(unknown(self.key, name, [*self, *self.others]))
        return self[name]
