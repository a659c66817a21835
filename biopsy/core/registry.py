"""Entries of one kind by name: backbones, augmentations, optimisers, losses. Each is registered where its code is."""

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
    others
        What the parameter may say beside the entries' names, such as 'none'; only errors list it.
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
            known = sorted([*self, *self.others])
            raise ParamsError(f"{self.key} must be one of {', '.join(known)}. Got '{name}'.{nearest(name, known)}")
        return self[name]
