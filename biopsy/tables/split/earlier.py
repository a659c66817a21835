"""The splits of an earlier run: an image in one of them keeps its part, so that added patients move no others.

`data/splits/drawn.json` says how each table was drawn. A table that was drawn differently is not kept.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from biopsy.core.errors import DataError, some
from biopsy.core.files import read_csv
from biopsy.core.protocol import UNITS, parse_protocol
from biopsy.core.record import Record
from biopsy.core.sections.data import Split
from biopsy.tables.split.folds import column_of

RECORD = "drawn.json"
PIXELS = "pixels"  # the column of a table that holds the first digits of the hash of an image's pixels
DIGITS = 16
KEPT = "kept_"  # prefix of a column's name: its value in the earlier table; empty for a new image


class Drawn(Record):
    """How one table was drawn.

    Attributes
    ----------
    seed, tasks, shares
        What a draw depends on besides the images; shares are None for folds.
    kept
        How many images kept their part when the table was last made; 0: all were drawn.
    earlier
        How many images the table had before that.
    """

    seed: int
    tasks: list[str]
    shares: tuple[float, float, float] | None
    kept: int = Field(0, ge=0)
    earlier: int = Field(0, ge=0)


_RECORD = TypeAdapter(dict[str, Drawn])


class Earlier:
    """The tables in a folder, as an earlier run left them.

    Attributes
    ----------
    says
        Sentences on what was kept, and on what is drawn again although there is a table.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.says = folder, list[str]()
        self._record: dict[str, Drawn] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        try:
            self._record = _RECORD.validate_json((folder / RECORD).read_bytes())
        except (OSError, ValidationError):
            if any(folder.glob("*.csv")):
                self.says.append(
                    f"{folder} has no {RECORD} that says how its splits were drawn, so all are drawn again."
                )

    def leave(self, protocols: Sequence[str]) -> None:
        """Say which tables are removed because `protocols` no longer names them."""
        gone = [name for name in self._record if name not in protocols and (self.folder / f"{name}.csv").exists()]
        if gone:
            self.says.append(
                f"Removed from {self.folder}, as `protocols` names them no longer: {some(gone)}. If images are added "
                "before you name them again, earlier images may change parts there."
            )

    def offer(self, labels: pd.DataFrame, protocol: str, how: Drawn) -> pd.DataFrame:
        """Add each image's part or folds in the earlier table to the labels, for `make_split`.

        Parameters
        ----------
        labels : DataFrame of n rows
            With `image_id` and `pixels_sha256`.
        protocol
            Its name.
        how
            How the protocol is drawn now.

        Returns
        -------
        DataFrame of n rows
            The labels as they are where nothing can be kept.
        """
        before = self._record.get(protocol)
        if before is None:
            return labels
        changed = [name for name in ("seed", "tasks", "shares") if getattr(before, name) != getattr(how, name)]
        if changed:
            self.says.append(f"{protocol} is drawn again: {some(changed)} changed.")
            return labels
        try:
            table = _read(self.folder / f"{protocol}.csv", protocol)
        except DataError as error:
            self.says.append(f"{protocol} is drawn again: {str(error).rstrip(' .')}.")
            return labels
        self._tables[protocol] = table
        found = labels[["image_id"]].assign(**{PIXELS: short(labels)}).merge(table, "left", ["image_id", PIXELS])
        columns = [column for column in table if column not in ("image_id", PIXELS)]
        kept = {f"{KEPT}{column}": found[column].fillna("").to_numpy(str) for column in columns}
        if not any((values != "").any() for values in kept.values()):
            return labels
        if lost := _lost(table[columns], kept) or _lacking(labels, kept, protocol, how.tasks):
            self.says.append(f"{protocol} is drawn again: {lost}.")
            del self._tables[protocol]
            return labels
        return labels.assign(**kept)

    def settle(self, labels: pd.DataFrame, split: pd.DataFrame, protocol: str, how: Drawn) -> Drawn:
        """Count the images that kept their part; a table to which nothing was added keeps its counts."""
        before = self._tables.get(protocol)
        if before is None:
            return how
        now = written(split, labels).astype(str)
        kept = len(before.merge(now[before.columns]))
        if kept == len(before) == len(now):
            return self._record[protocol]
        self.says.append(
            f"{protocol}: {kept} of the {len(before)} images of the earlier split kept their part, {len(now) - kept} "
            f"were placed around them. To draw all again: `rm -r {self.folder}`, then `dvc repro split`."
        )
        return how.model_copy(update={"kept": kept, "earlier": len(before)})


def _lost(before: pd.DataFrame, kept: dict[str, NDArray[np.str_]]) -> str:
    """Say which part or fold would be empty, because all of its images are gone."""
    for column in before:
        if gone := sorted(set(before[column]) - set(kept[f"{KEPT}{column}"])):
            return f"no image of {'' if column == 'part' else 'fold '}{gone[0]} is left"
    return ""


def _lacking(labels: pd.DataFrame, kept: dict[str, NDArray[np.str_]], protocol: str, tasks: Sequence[str]) -> str:
    """Say which class would be in validation or test but not in training, because its images are gone."""
    found = parse_protocol(protocol)
    if found.k or found.unit not in UNITS:
        return ""
    parts = kept[f"{KEPT}part"]
    for task in tasks:
        if gone := sorted(set(labels[task]) - set(labels[task][(parts == "train") | (parts == "")])):
            return f"no training image of {task} '{gone[0]}' is left"
    return ""


def how_drawn(seed: int, tasks: Sequence[str], protocol: str, shares: Split) -> Drawn:
    """Say how a protocol is drawn now."""
    three = None if parse_protocol(protocol).k else (shares.train, shares.val, shares.test)
    return Drawn(seed=seed, tasks=list(tasks), shares=three)


def record_of(drawn: dict[str, Drawn]) -> bytes:
    """Return the content of `drawn.json`."""
    return _RECORD.dump_json(drawn, indent=2) + b"\n"


def short(labels: pd.DataFrame) -> pd.Series:
    """Return the first digits of each image's hash."""
    return labels["pixels_sha256"].astype(str).str[:DIGITS]


def written(split: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the table as it is written; a later run compares the pixels' hash to know whether an image is the same."""
    pixels = short(labels).set_axis(labels["image_id"])
    return split.assign(**{PIXELS: split["image_id"].map(pixels)})


def fixed_groups(
    groups: NDArray[np.int64], table: pd.DataFrame, column: str, values: Iterable[object], unit: str
) -> NDArray[np.int64]:
    """Find the part of each group that has an image with a kept part.

    Parameters
    ----------
    groups : int array of shape (n,)
    table : DataFrame of n rows
        The labels, with what `Earlier.offer` adds or without.
    column, values
        Of the split: `part` or that of a repeat, and what it may hold.
    unit
        What the groups are, for the error.

    Returns
    -------
    int array of shape (groups,)
        Index into `values`; -1 where the group is new.

    Raises
    ------
    DataError
        Images of different parts are now in one group.
    """
    fixed = np.full(groups.max() + 1, -1)
    if KEPT + column not in table:
        return fixed
    names = [str(value) for value in values]
    kept = table[KEPT + column].map({name: i for i, name in enumerate(names)}).fillna(-1).to_numpy(np.int64)
    for row in np.flatnonzero(kept >= 0):
        group = groups[row]
        if fixed[group] not in (-1, kept[row]):
            raise DataError(_linked(table[groups == group], kept[groups == group], column, names, unit))
        fixed[group] = kept[row]
    return fixed


def _linked(rows: pd.DataFrame, kept: NDArray[np.int64], column: str, values: Sequence[str], unit: str) -> str:
    what = "" if column == "part" else "fold "
    first = {i: rows["image_id"].iloc[int(np.argmax(kept == i))] for i in sorted(set(kept.tolist()) - {-1})}
    sides = " and ".join(f"{name} in {what}{values[i]}" for i, name in first.items())
    several = rows.groupby("pixels_sha256")["image_id"].transform("size") > 1
    twins = rows.loc[several, "image_id"]
    why = f"equal pixels now link them ({some(twins, 4)})" if len(twins) else f"they are now of one {unit}"
    return (
        f"the earlier split has {sides}, and {why}, so that one would have to move. Correct the images or the table, "
        "or draw all again: `rm -r data/splits`, then `dvc repro split`."
    )


def _read(path: Path, protocol: str) -> pd.DataFrame:
    """Read `image_id`, `pixels` and what was drawn, as text. Raises `DataError`."""
    found = parse_protocol(protocol)
    columns = [column_of(repeat) for repeat in range(1, found.repeats + 1)] if found.k else ["part"]
    table = read_csv(path, ["image_id", *columns, PIXELS], "")[["image_id", *columns, PIXELS]]
    known = {str(fold) for fold in range(1, found.k + 1)} or {"train", "val", "test"}
    for column in columns:
        strange = set(table[column]) - known
        if strange:
            raise DataError(f"{path} has {some(sorted(strange), 2)} in its column {column}.")
    return table
