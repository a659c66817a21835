"""What file names say: one grammar per data set, by name. Each is registered in the file of its code."""

from collections.abc import Callable
from dataclasses import dataclass

from biopsy.core.registry import Registry


@dataclass(frozen=True)
class Grammar:
    """One entry of the registry.

    Attributes
    ----------
    name
        What `labels.grammar` says.
    parse
        From a file name, or a path with `/` whose last part is one, to its facts: labels by the name of their task, and
        `magnification`, `slide`, `case` where the name tells them. None where the name does not follow the grammar.
    description
        One sentence with its source.
    """

    name: str
    parse: Callable[[str], dict[str, str] | None]
    description: str


GRAMMARS = Registry[Grammar]("name grammar", "labels.grammar")
register, find = GRAMMARS.add, GRAMMARS.find


def facts_in(path: str, grammar: str | None) -> dict[str, str] | None:
    """Return what a file name says, see `Grammar.parse`; None also where there is no grammar."""
    return find(grammar).parse(path) if grammar else None
