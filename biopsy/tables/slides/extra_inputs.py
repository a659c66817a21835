"""Inputs of a model besides the pixels: the magnification and facts about slides, encoded by the training rows.

The encoder is stored in the model's card, so that tests and predictions encode as the training did and fit nothing.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from biopsy.core.errors import DataError, nearest, some, warn
from biopsy.core.record import Record
from biopsy.core.text import DASHES, count, id_key, is_missing, plain
from biopsy.tables.slides.slide_table import read_slides

if TYPE_CHECKING:
    import pandas as pd

MAGNIFICATION, PREFIX = "magnification", "slides."
MOST_CATEGORIES = 32
LIKE_A_NUMBER = re.compile(r"[<>~]?\s*[-+]?\d+([.,]\d+)*\s*(%|[^\W\d]+)?")  # 45,5 or 1,200 or 45 % or 45 years
MOSTLY = 0.8  # share of numbers from which on a column holds numbers; its other cells are mistakes


class Number(Record):
    """A column of numbers: (value - mean) / deviation, or 0 if missing; then 1 if missing, else 0.

    A cell that is not a number counts as missing; `Encoder.odd_cells` names such cells.
    """

    kind: Literal["number"] = "number"
    name: str
    mean: float
    deviation: float = Field(gt=0)

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return 2

    def encode(self, values: Sequence[str]) -> NDArray[np.float32]:
        """Encode n values into (n, 2) numbers."""
        numbers = [_number(text) for text in values]
        return np.array(
            [(0, 1) if number is None else ((number - self.mean) / self.deviation, 0) for number in numbers], np.float32
        ).reshape(len(numbers), 2)


class Category(Record):
    """A column of words, one-hot: a place for each word in the training rows, one for other words, one for missing.

    Spellings with the same `text.plain` are one word.
    """

    kind: Literal["category"] = "category"
    name: str
    categories: list[str]

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return len(self.categories) + 2

    def encode(self, values: Sequence[str]) -> NDArray[np.float32]:
        """Encode n values; one of the numbers is 1, the others are 0."""
        place = {plain(name): i for i, name in enumerate(self.categories)}
        other = len(self.categories)
        at = [other + 1 if is_missing(text) else place.get(plain(text), other) for text in values]
        return np.eye(self.width, dtype=np.float32)[at]


Column = Annotated[Number | Category, Field(discriminator="kind")]


class Encoder(Record):
    """From facts to numbers; JSON in the model's card.

    Attributes
    ----------
    inputs
        As `model.extra_inputs`.
    columns
        In the order of the numbers.
    """

    inputs: list[str]
    columns: list[Column]

    @property
    def width(self) -> int:
        """How many numbers an image has."""
        return sum(column.width for column in self.columns)

    def encode(self, facts: "pd.DataFrame") -> NDArray[np.float32]:
        """Turn the facts of n images, as `read_facts` gives them, into (n, width) numbers; raises `DataError`."""
        lacking = [column.name for column in self.columns if column.name not in facts]
        if lacking:
            raise DataError(
                f"data.slides lacks {some(lacking)}, which the model was trained with. Put the table back, or train "
                "again with `dvc repro`."
            )
        parts = [column.encode(facts[column.name].tolist()) for column in self.columns]
        return np.hstack(parts) if parts else np.zeros((len(facts), 0), np.float32)

    def odd_cells(self, facts: "pd.DataFrame") -> list[str]:
        """Name the cells of columns of numbers that are neither a number nor a usual mark of a missing value."""
        of_slides = facts.drop_duplicates("slide")
        return [
            f"slide {slide}: {column.name.removeprefix(PREFIX)} {text!r}"
            for column in self.columns
            if isinstance(column, Number) and column.name in facts
            for slide, text in zip(of_slides["slide"], of_slides[column.name], strict=True)
            if _is_odd(text)
        ]


def read_facts(rows: "pd.DataFrame", inputs: Sequence[str], slides_csv: Path) -> "pd.DataFrame":
    """Gather what is known about images besides their pixels.

    Parameters
    ----------
    rows
        n images with `image_id`, `slide`, `magnification`.
    inputs
        As `model.extra_inputs`: 'magnification', 'slides'.
    slides_csv
        The table of slides; only read where `inputs` asks for it.

    Returns
    -------
    DataFrame
        n rows of text: `slide`, `magnification`, and the table's columns as `slides.<name>`.

    Raises
    ------
    DataError
        An image without magnification, or of a slide that is not in the table. (Treating it as missing would tell the
        network which slides were left out.)
    """
    import pandas as pd  # a second, which a model's card should not cost

    facts = pd.DataFrame({"slide": rows["slide"].astype(str).to_numpy()})
    if MAGNIFICATION in inputs:
        numbers = pd.to_numeric(rows[MAGNIFICATION], errors="coerce")
        without = rows["image_id"][numbers.isna()]
        if len(without):
            raise DataError(
                f"model.extra_inputs asks for the magnification, which {len(without)} images lack ({some(without, 3)})"
                ". Name its column in ingest.columns.magnification, or take it out of model.extra_inputs."
            )
        facts[MAGNIFICATION] = [f"{number:g}" for number in numbers]
    if "slides" in inputs:
        table = read_slides(slides_csv)
        keys = facts["slide"].map(id_key)
        unknown = sorted(set(facts["slide"][~keys.isin(table.index)]))
        if unknown:
            meant = nearest(unknown[0], table.index) or f" It names {some(sorted(table.index), 3)}."
            raise DataError(
                f"data.slides has no row for {len(unknown)} of {facts['slide'].nunique()} slides ({some(unknown)})."
                f"{meant} Add them, with empty cells where nothing is known."
            )
        joined = table.loc[keys].reset_index(drop=True).add_prefix(PREFIX)
        facts = pd.concat([facts, joined], axis=1)
    return facts


def fit_encoder(facts: "pd.DataFrame", inputs: Sequence[str]) -> Encoder:
    """Fit on training images: each slide counts once, however many images it has.

    Parameters
    ----------
    facts
        Of `read_facts`, training rows alone.
    inputs
        As `model.extra_inputs`.

    Returns
    -------
    Encoder
        A column with at least 80 % numbers among its known cells is scaled by their mean and deviation (1 if all are
        equal); any other is a category.

    Raises
    ------
    DataError
        More than 32 categories.
    """
    columns: list[Number | Category] = []
    if MAGNIFICATION in inputs:
        seen = sorted(set(facts[MAGNIFICATION]), key=float)
        columns.append(Category(name=MAGNIFICATION, categories=seen))
    of_slides = facts.drop_duplicates("slide")
    columns += [_fit(name, of_slides[name].tolist()) for name in facts.columns if name.startswith(PREFIX)]
    return Encoder(inputs=list(inputs), columns=columns)


def encode_extra(
    rows: "pd.DataFrame", inputs: Sequence[str], slides_csv: Path
) -> tuple[Encoder | None, NDArray[np.float32] | None]:
    """Fit on the training rows, and encode all.

    Parameters
    ----------
    rows
        n images with `part` and what `read_facts` reads. Those of the test part are encoded too, so that a slide that
        is not in the table is reported before the training, which does not use them.
    inputs, slides_csv
        As for `read_facts`.

    Returns
    -------
    Encoder, numpy.ndarray
        The numbers are (n, width); both are None where `inputs` is empty.
    """
    if not inputs:
        return None, None
    facts = read_facts(rows, inputs, slides_csv)
    encoder = fit_encoder(facts[(rows["part"] == "train").to_numpy()], inputs)
    odd = encoder.odd_cells(facts)
    if odd:
        warn(
            f"data.slides holds {count(len(odd), 'cell')} without a number in columns of numbers, taken as "
            f"missing ({some(odd)})."
        )
    for column in encoder.columns:
        words = column.categories if isinstance(column, Category) else []
        numbers = [word for word in words if LIKE_A_NUMBER.fullmatch(word)]
        if column.name != MAGNIFICATION and numbers and len(numbers) >= MOSTLY * len(words):
            warn(
                f"column '{column.name.removeprefix(PREFIX)}' of data.slides is taken as words ({some(words, 3)}). If "
                "they are numbers, write them with a decimal point and without units."
            )
    return encoder, encoder.encode(facts)


def _fit(name: str, values: list[str]) -> Number | Category:
    known = [value for value in values if not is_missing(value)]
    numbers = [number for value in known if (number := _number(value)) is not None]
    if known and len(numbers) >= MOSTLY * len(known):
        return Number(name=name, mean=float(np.mean(numbers)), deviation=float(np.std(numbers)) or 1.0)
    spelled: dict[str, str] = {}
    for value in sorted(known):
        spelled.setdefault(plain(value), value)
    categories = list(spelled.values())
    if len(categories) > MOST_CATEGORIES:
        odd = next(value for value in known if _is_odd(value))
        raise DataError(
            f"column '{name}' of data.slides holds {len(categories)} different words for the training slides, more "
            f"than {MOST_CATEGORIES}. Take it out, or, if numbers are meant, correct cells such as {odd!r}."
        )
    return Category(name=name, categories=categories)


def _is_odd(text: str) -> bool:
    return _number(text) is None and not is_missing(text)


def _number(text: str) -> float | None:
    try:
        number = float(text.translate(DASHES))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
