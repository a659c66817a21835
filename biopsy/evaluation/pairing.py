"""Two tables of predictions, row by row: whether they are of the same images, and what the difference shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biopsy.core.errors import DataError, some
from biopsy.evaluation.comparison import DeLong, Difference, delong, paired_difference
from biopsy.evaluation.jackknife import FIGURES, Floats, Ints
from biopsy.evaluation.outcome import Undefined

SAME = {"truth": "another label", "case": "another case", "slide": "another slide"}  # what must agree, image by image
ROUNDING = 1e-4  # of probabilities in a file
OTHERWISE = "Run both with the same data, seed and split."


@dataclass(frozen=True)
class Pair:
    """What two models answered about the same n images.

    Attributes
    ----------
    classes
        The c names.
    truth
        (n,) int, index into `classes`.
    cases
        (n,) str.
    answers
        Of either model (r, n, c): the probabilities, in each of r repeats of a cross-validation and for each seed.
    thresholds
        Of either model (r,): its operating points.
    """

    classes: Sequence[str]
    truth: Ints
    cases: NDArray[np.str_]
    answers: tuple[Floats, Floats]
    thresholds: tuple[Floats, Floats]

    def differences(self, positive: Sequence[str] | Undefined) -> dict[str, Difference | Undefined]:
        """Compare all figures of images, over cases; `positive` names the positive classes, or why none are."""
        named = () if isinstance(positive, Undefined) else positive
        columns = [i for i, name in enumerate(self.classes) if name in named]
        found = paired_difference(self.truth, *self.answers, self.cases, columns, self.thresholds)
        none = positive if isinstance(positive, Undefined) else Undefined("the task names no positive class")
        return {name: found[name] if columns or name in FIGURES[:4] else none for name in FIGURES}

    def areas(self) -> DeLong | None:
        """Compare the areas under the ROC curve of whole cases, by their mean probability; None where undefined."""
        keys, index = np.unique(np.stack([self.cases, self.truth.astype(str)]), axis=1, return_inverse=True)
        truth = keys[1] == "1"
        if len(self.classes) != 2 or min(truth.sum(), (~truth).sum()) < 2:
            return None
        means = [
            np.bincount(index.ravel(), given[:, :, 1].mean(0)) / np.bincount(index.ravel()) for given in self.answers
        ]
        return delong(truth, *means)


def pair_tables(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> Pair:
    """Put two tables of predictions side by side.

    Parameters
    ----------
    first, second
        As `prediction_table` makes them and `read_predictions` reads them; of a cross-validation with `fold`.
    names
        What messages call the two.

    Raises
    ------
    DataError
        They are not of the same images, labels, cases and folds, or an image has no case.
    """
    one, other = (table.assign(repeat=_repeats(table)).sort_values(["repeat", "image_id"]) for table in (first, second))
    keys = [list(zip(table["repeat"], table["image_id"], strict=True)) for table in (one, other)]
    if keys[0] != keys[1]:
        alone = {name for _, name in set(keys[0]) ^ set(keys[1])}
        every = {name for _, name in [*keys[0], *keys[1]]}
        raise DataError(
            f"{names[0]} and {names[1]} answered different images: {len(alone)} of {len(every)} have one answer. "
            f"{OTHERWISE}"
        )
    classes = [[name.removeprefix("p_") for name in _columns(table)] for table in (one, other)]
    if sorted(classes[0]) != sorted(classes[1]):
        raise DataError(
            f"{names[0]} and {names[1]} know different classes: {some(classes[0])}, and {some(classes[1])}. {OTHERWISE}"
        )
    folds = ["fold" in table for table in (one, other)]
    if folds[0] != folds[1]:
        raise DataError(f"{names[folds[0]]} has no folds, and {names[folds[1]]} has. {OTHERWISE}")
    for column, what in (SAME | ({"fold": "another fold"} if folds[0] else {})).items():
        apart = int((one[column].to_numpy() != other[column].to_numpy()).sum())
        if apart:
            raise DataError(f"{names[0]} and {names[1]} have {what} for {apart} of {len(one)} images. {OTHERWISE}")
    lost = int((one["case"] == "").sum())
    if lost:
        raise DataError(f"{lost} of {len(one)} images have no case, and models are compared case by case.")
    r = one["repeat"].nunique()
    numbers = {name: i for i, name in enumerate(classes[0])}
    truth = np.array([numbers[name] for name in one["truth"]], np.int_)
    answers = [
        table[[f"p_{name}" for name in classes[0]]].to_numpy(float).reshape(r, -1, len(classes[0]))
        for table in (one, other)
    ]
    n = len(one) // r
    return Pair(
        classes[0],
        truth[:n],
        one["case"].to_numpy(str)[:n],
        (answers[0], answers[1]),
        (np.full(r, _threshold(one, classes[0])), np.full(r, _threshold(other, classes[0]))),
    )


def pool_pairs(pairs: Sequence[Pair], name: str) -> Pair:
    """Put the pairs of several seeds together: each seed is a repeat.

    Raises
    ------
    DataError
        They are of different images: `name`, such as 'binary-case', says of which model.
    """
    one, *others = pairs
    for other in others:
        if one.classes != other.classes or list(one.cases) != list(other.cases) or list(one.truth) != list(other.truth):
            raise DataError(
                f"{name}: the seeds were tested on different images, so their answers cannot be put together. Compare "
                "a cross-validation (protocol case-cv5), which tests every image."
            )
    sides = ([pair.answers[i] for pair in pairs] for i in (0, 1))
    points = ([pair.thresholds[i] for pair in pairs] for i in (0, 1))
    answers, thresholds = (tuple(np.concatenate(part) for part in parts) for parts in (sides, points))
    return Pair(one.classes, one.truth, one.cases, (answers[0], answers[1]), (thresholds[0], thresholds[1]))


def read_predictions(source: Any, name: str) -> pd.DataFrame:
    """Read a table that `evaluate` wrote, names as text. Raises `DataError` where `name` is none."""
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
        columns = _columns(table)
        missing = [column for column in ("image_id", "slide", "case", "truth", "predicted") if column not in table]
        if missing or not columns or not len(table):
            raise ValueError(f"it lacks {some(missing) or 'probabilities or rows'}")
        numbers = table[columns].replace("", "nan").astype(float)
        if not np.isfinite(numbers.to_numpy()).all():
            raise ValueError("a probability is not a number")
        odd = set(table["truth"]) - {column.removeprefix("p_") for column in columns}
        if odd:
            raise ValueError(f"no probability of {some(sorted(odd))}")
        _check(table.assign(**{column: numbers[column] for column in columns}), columns)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{name} is not a table of predictions ({error}). Make it again with `dvc repro`.") from None
    return table.assign(**{column: numbers[column] for column in columns})


def _columns(table: pd.DataFrame) -> list[str]:
    """List the columns of probabilities."""
    return [name for name in map(str, table) if name.startswith("p_")]


def _repeats(table: pd.DataFrame) -> Any:
    """Take the repeat of each row from its fold's name, such as '1-2'."""
    return table["fold"].str.split("-").str[0].astype(int) if "fold" in table else 1


def _check(table: pd.DataFrame, columns: list[str]) -> None:
    """Raise `ValueError` where `evaluate` cannot have written the table, as figures of it would be wrong."""
    if "fold" in table:
        odd = set(table["fold"][~table["fold"].str.fullmatch("[1-9][0-9]*-[1-9][0-9]*")])
        if odd:
            raise ValueError(f"'{min(odd)}' is not a fold")
    of_repeats = [
        sorted(part["image_id"]) for _, part in table.groupby(_repeats(table) if "fold" in table else [1] * len(table))
    ]
    if any(len(set(ids)) < len(ids) for ids in of_repeats):
        raise ValueError("an image has two rows")
    if any(ids != of_repeats[0] for ids in of_repeats):
        raise ValueError("its repeats are of different images")
    given = table[columns].to_numpy(float)
    if (given < 0).any() or (abs(given.sum(1) - 1) > ROUNDING).any():
        raise ValueError("the probabilities of an image do not add up to 1")
    called = np.array([f"p_{name}" for name in table["predicted"]])[:, None] == np.array(columns)
    if not called.any(1).all():
        raise ValueError("an image is predicted to be of no class")
    own = given[called]
    low = own < given.max(1) - ROUNDING
    if len(columns) == 2:  # one operating point explains all answers
        second = called[:, 1]
        low = second & (given[:, 1] < given[~second, 1].max(initial=0) - ROUNDING)
    if low.any():
        raise ValueError("its predictions do not follow from its probabilities")


def _threshold(table: pd.DataFrame, classes: Sequence[str]) -> float:
    """Find the operating point between two classes from what was answered: 0.5 where that explains it."""
    if len(classes) != 2:
        return 0.5
    chosen = table["predicted"] == classes[1]
    scores = table[f"p_{classes[1]}"]
    if ((scores >= 0.5) == chosen).all():
        return 0.5
    return float(scores[chosen].min()) if chosen.any() else 1.0 + 1e-9
