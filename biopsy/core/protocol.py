"""Parse a protocol's name: `case`, `case-1of5` (one fold of five), `case-cv5x3` (all five folds, three times)."""

import re
from dataclasses import dataclass

from biopsy.core.text import count, plain

PATTERN = r"^(image|slide|case)(-[1-9][0-9]*of[1-9][0-9]*|-cv[1-9][0-9]*(x[1-9][0-9]*)?)?$|^(fold1|audit|eva|given)$"
FORMS = (
    "image, slide, case, fold1, audit, eva, given, one fold of k such as case-1of5, or all folds such as case-cv5 or "
    "case-cv5x3"
)
FEWEST_FOLDS = 3  # one for test, one for validation, and the rest for training
MOST_REPEATS = 100
MOST_FOLDS = 1000  # each is a training of its own
UNITS = ("image", "slide", "case")
PARTS = ("train", "val", "test")
PUBLIC = ("fold1", "audit", "eva")  # test sets of published work
WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"} | {
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Fold:
    """One fold of one repeat of a cross-validation, both counted from 1."""

    repeat: int
    index: int

    @property
    def name(self) -> str:
        """Its name in folders and tables: '1-2' is the second fold of the first repeat."""
        return f"{self.repeat}-{self.index}"


@dataclass(frozen=True)
class Protocol:
    """What a protocol's name says.

    Attributes
    ----------
    name
        As params.yaml has it.
    unit
        What is never split: 'image', 'slide' or 'case'; for a public test set or 'given', the name itself.
    k
        How many folds there are; 0 where there are none.
    index
        Which fold is tested, from 1; 0 where it is all of them or there are none.
    repeats
        How often the images are divided into folds.
    """

    name: str
    unit: str
    k: int = 0
    index: int = 0
    repeats: int = 1

    @property
    def folds(self) -> list[Fold]:
        """The folds of a cross-validation, repeat by repeat; empty for every other protocol."""
        if not self.k or self.index:
            return []
        return [Fold(repeat, index) for repeat in range(1, self.repeats + 1) for index in range(1, self.k + 1)]


def parse_protocol(name: str) -> Protocol:
    """Parse a protocol's name.

    Raises
    ------
    ValueError
        It is not a protocol, has too few folds, or names a fold that does not exist: the reason, as a clause.
    """
    if not re.match(PATTERN, name):
        raise ValueError(f"'{name}' is not a protocol: it must be {FORMS}")
    unit, _, rest = name.partition("-")
    numbers = [int(number) for number in re.findall(r"\d+", rest)]
    if not rest:
        return Protocol(name, unit)
    if rest.startswith("cv"):
        found = Protocol(name, unit, numbers[0], repeats=numbers[1] if len(numbers) > 1 else 1)
    else:
        found = Protocol(name, unit, numbers[1], numbers[0])
    if found.k < FEWEST_FOLDS:
        raise ValueError(
            f"'{name}' has {count(found.k, 'fold')}, and the parts train, val and test need "
            f"k >= {FEWEST_FOLDS}, as in {unit}-{'cv5' if rest.startswith('cv') else '1of5'}"
        )
    if found.k > MOST_FOLDS:
        raise ValueError(f"'{name}' has {found.k} folds; at most {MOST_FOLDS} are possible")
    if found.index > found.k:
        raise ValueError(f"'{name}': a fold is written <protocol>-<i>of<k> with i <= k and k >= {FEWEST_FOLDS}")
    if found.repeats > MOST_REPEATS:
        raise ValueError(f"'{name}' has {found.repeats} repeats; at most {MOST_REPEATS} are possible")
    return found


def read_part(text: str) -> str | None:
    """Return the part that a word such as `Train`, `valid` or `test_set` names; None where it names no part."""
    return WORDS.get(re.sub(r"(set|data|dataset|images)$", "", plain(text)))
