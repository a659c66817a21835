"""Entries of one kind by name: backbones, augmentations, optimisers, losses. An entry stands beside its code."""

from typing import Generic, Protocol, TypeVar

from biopsy.core.errors import ParamsError, nearest


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """What parameters call it."""


E = TypeVar("E", bound=Named)


class Registry(dict[str, E], Generic[E]):
    """The entries of one kind, in the order in which they were added.

    Parameters
    ----------
    kind
        What an entry is, for errors: 'backbone'.
    key
        The parameter that names one: 'model.backbone'.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__()
        self.kind, self.key = kind, key

    def add(self, entry: E) -> E:
        """Add an entry; a name that is taken is refused."""
        if entry.name in self:
            raise ValueError(f"{self.kind} '{entry.name}' is registered already")
        self[entry.name] = entry
        return entry

    def find(self, name: str) -> E:
        """Return the entry called `name`. Raises `ParamsError`, which lists the names and the nearest one."""
        if name not in self:
            known = ", ".join(sorted(self))
            raise ParamsError(f"{self.key} must be one of {known}. Got '{name}'.{nearest(name, self)}")
        return self[name]
