"""What all sections share: how strict they are, and the types of their values."""

from typing import Annotated

from pydantic import ConfigDict, Field

from biopsy.core.protocol import PATTERN
from biopsy.core.record import Record

HUB = r"^hf://([\w.-]+/[\w.-]+)/([\w./-]+)$"  # a file of a hub: organisation and repository, path in it
Fraction = Annotated[float, Field(gt=0, lt=1)]
# A task is part of the names of folders and columns: models/<task>-<protocol>, `<task>` in the table of labels.
Task = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
ProtocolName = Annotated[str, Field(pattern=PATTERN)]


class Section(Record):
    """One section of params.yaml: unknown keys and lenient type conversions are rejected."""

    model_config = ConfigDict(strict=True)


def refuse_repetition(value: list[str]) -> list[str]:
    """Return a list. Raises `ValueError` where an entry stands in it twice."""
    if len(set(value)) < len(value):
        raise ValueError("each entry may appear only once")
    return value
