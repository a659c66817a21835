"""A model's answers on the test set, and the tables that are drawn from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve
from tqdm import tqdm

from biopsy.evaluation.outcome import Outcome
from biopsy.networks.temperature import both_classes

POINTS = 200


@dataclass(frozen=True)
class Answers:
    """What was answered about one part; of a cross-validation, each image once.

    Attributes
    ----------
    rows
        n rows with `image_id`, `slide`, `case`, `magnification`, and of a cross-validation `fold`.
    outcome
        Of the same images, in the same order.
    temperatures
        (n,) that of the model that answered.
    """

    rows: pd.DataFrame
    outcome: Outcome
    temperatures: NDArray[np.float64]

    @property
    def cases(self) -> NDArray[np.str_]:
        """(n,) the case of each image; an empty string where it is not known."""
        return self.rows["case"].to_numpy(str)


def predict(
    answer: Callable[[Any], Any],
    files: Sequence[Path],
    read: Callable[[list[Path]], NDArray[np.uint8]],
    batch: int = 32,
    extra: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Ask a model about images, a batch in memory at a time.

    Parameters
    ----------
    answer
        From what `read` gives, as float32, to (b, c) probabilities; (b, 1): those of the second of two classes.
    files
        The n images.
    read
        From at most `batch` files to their pixels, uint8, one entry an image.
    batch
        Images at once.
    extra
        (n, k): what the model is told beside the pixels; `answer` then gets a dict of `pixels` and `extra`.

    Returns
    -------
    numpy.ndarray
        (n, c) float32, with c at least 2.
    """
    parts = []
    for start in tqdm(range(0, len(files), batch), "predict", delay=2, unit="batch"):
        pixels = read(list(files[start : start + batch])).astype(np.float32)
        asked = pixels if extra is None else {"pixels": pixels, "extra": extra[start : start + batch]}
        parts.append(np.asarray(answer(asked), np.float32))
    given = np.concatenate(parts) if parts else np.empty((0, 2), np.float32)
    return both_classes(given)


def prediction_table(rows: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Say for each image what it is, what the model takes it for, and every probability (float32, 0 to 1).

    Parameters
    ----------
    rows
        n rows with `image_id`, `slide`, `case`, `magnification`, in the order of `outcome`; of a cross-validation also
        `fold`, whose model answered.
    outcome
        Truth and probabilities.
    """
    names = np.array(outcome.classes)
    table = rows[["image_id", *(["fold"] if "fold" in rows else []), "slide", "case"]].reset_index(drop=True)
    table["magnification"] = magnifications(rows)
    table["truth"], table["predicted"] = names[outcome.truth], names[outcome.predicted]
    for i, name in enumerate(outcome.classes):
        table[f"p_{name}"] = outcome.probabilities[:, i].astype(np.float32)
    return table


def magnifications(rows: pd.DataFrame) -> NDArray[np.str_]:
    """Return (n,) str, such as '40'; an empty string where the magnification is not known."""
    numbers = pd.to_numeric(rows["magnification"], errors="coerce")
    return np.array(["" if np.isnan(number) else f"{number:g}" for number in numbers], dtype=np.str_)


def confusion_table(outcome: Outcome) -> pd.DataFrame:
    """List `actual` and `predicted` of every image, as DVC's confusion templates want them."""
    names = np.array(outcome.classes)
    table = pd.DataFrame({"actual": names[outcome.truth], "predicted": names[outcome.predicted]})
    return table.sort_values(["actual", "predicted"], ignore_index=True)


def curve_table(outcome: Outcome, kind: str) -> pd.DataFrame:
    """List the points of each class's curve against the rest: at most 200 each, the ends among them.

    Parameters
    ----------
    outcome
        Of two classes, only the second (malignant) has a curve.
    kind
        'roc': columns class, fpr, tpr. 'pr': columns class, recall, precision.

    Returns
    -------
    pandas.DataFrame
        Empty of rows where no curve is defined, which is where a class is all of the truth or none of it.
    """
    columns = ["class", "fpr", "tpr"] if kind == "roc" else ["class", "recall", "precision"]
    shown = [1] if len(outcome.classes) == 2 else range(len(outcome.classes))
    tables = []
    for i in shown:
        positive = outcome.truth == i
        if positive.all() or not positive.any():
            continue
        curve = roc_curve if kind == "roc" else precision_recall_curve
        first, second, _ = curve(positive, outcome.probabilities[:, i], drop_intermediate=True)
        x, y = _thin(first, second) if kind == "roc" else _thin(second[::-1], first[::-1])
        tables.append(pd.DataFrame(dict(zip(columns, ([outcome.classes[i]] * len(x), x, y), strict=True))))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep at most 200 points, evenly spaced along the curve, both ends among them; round to six decimals."""
    if len(x) > POINTS:
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], POINTS)).clip(max=len(x) - 1))
        x, y = x[kept], y[kept]
    return x.round(6), y.round(6)


def magnification_table(details: dict[str, Any]) -> pd.DataFrame:
    """Turn `details['per_magnification']` into a table, a row each: `magnification` is '40X', and so on."""
    names = ["macro_f1", "balanced_accuracy", "accuracy", "images", "cases"]
    rows = [
        {"magnification": value if value == "unknown" else f"{value}X", **{name: row[name] for name in names}}
        for value, row in details["per_magnification"].items()
    ]
    return pd.DataFrame(rows, columns=["magnification", *names])
