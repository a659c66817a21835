"""The augmentations of one image, by name. Each is registered where its code is; `conf/augment/` holds the presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from biopsy.core.errors import ParamsError
from biopsy.core.registry import Registry, unknown

Share = Annotated[float, Field(ge=0, lt=1)]
Kind = Literal["turn", "colour", "policy", "mask"]


@dataclass(frozen=True)
class Operation:
    """One entry of the registry.

    Attributes
    ----------
    name
        The key in `augment.every` and `augment.copies.<task>`.
    strength
        Type and bounds of its value, as pydantic understands them; a false value (false, 0, null) means never.
    apply
        `(image, seed, strength) -> image`: (size, size, 3) float32, 0 to 255, to the same; the seed is two integers,
        and equal seeds give equal pixels.
    description
        One sentence, with its source where there is one.
    example
        A usual strength, which tests and benchmarks take.
    kind
        Decides the order: first turns, which only move pixels (so they take uint8 too, and return the type that they
        were given), then colours, then policies, which draw from a table of their own, then masks.
    """

    name: str
    strength: Any
    apply: Callable[[Any, Any, Any], Any]
    description: str
    example: Any
    kind: Kind = "colour"


OPERATIONS = Registry[Operation]("augmentation", "augment.every")
register = OPERATIONS.add


def check_strengths(strengths: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Check names and values, and leave out what is off.

    Parameters
    ----------
    strengths
        From names to strengths, as params.yaml has them.
    key
        Where they stand, for the error.

    Returns
    -------
    dict
        The operations that are on, in the order in which they are applied, with checked strengths.

    Raises
    ------
    ParamsError
        An unknown name (the nearest is named) or a value out of range.
    """
    for name in strengths:
        if name not in OPERATIONS:
            raise ParamsError(unknown(f"{key}.{name}: the name", name, OPERATIONS))
    checked = {}
    for name, operation in sorted(OPERATIONS.items(), key=lambda item: get_args(Kind).index(item[1].kind)):
        if not strengths.get(name):
            continue
        try:
            checked[name] = TypeAdapter(operation.strength).validate_python(strengths[name], strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([key, name, *(str(part) for part in first["loc"])])
            message = first["msg"].removeprefix("Value error, ").replace("Input should", "Input must")
            message = message[0].lower() + message[1:]
            raise ParamsError(f"'{where}': {message}. Got {first['input']!r}.") from None
    return checked
