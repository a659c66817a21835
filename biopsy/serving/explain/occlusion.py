"""Which places of an image a model's answer depends on, found by hiding them; nothing of the model is looked at.

The map is that of Zeiler & Fergus (2014, arXiv 1311.2901), its check that of Petsiuk et al. (2018, arXiv 1806.07421).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopsy.networks.answers import BATCH

Floats = NDArray[np.float64]
CELLS = 10  # along a side of an image of one view; a hidden square is two cells wide, and moves by one
FLAT = 0.01  # changes of a probability below this count as none: a map of only such values names no place
STEPS, PAIRS = 8, 3  # of the check: of a curve, and random orders beside their opposites


@dataclass(frozen=True)
class Subject:
    """One image, and the class whose probability is asked for.

    Attributes
    ----------
    answer
        From images, uint8 (n, views, size, size, 3), to probabilities (n, classes): `Model.probabilities`.
    views : uint8 array of shape (views, size, size, 3)
        The image as `prepare` makes it.
    index
        The class's place in the answers.
    """

    answer: Callable[[NDArray[np.uint8]], Floats]
    views: NDArray[np.uint8]
    index: int

    @property
    def cells(self) -> int:
        """How many cells a side of a view has: an image of several views has about as many in all as one of one."""
        return max(3, round(CELLS / len(self.views) ** 0.5))

    def hide(self, hidden: NDArray[np.bool_]) -> Floats:
        """Return the probability (n,) once cells, (n, views, cells, cells), have the image's mean colour."""
        count, size = len(self.views), self.views.shape[1]
        cell = np.arange(size) * hidden.shape[-1] // size  # of each pixel
        grey = self.views.mean(axis=(0, 1, 2)).round().astype(np.uint8)
        batch, given = max(1, BATCH // count), []
        for start in range(0, len(hidden), batch):
            pixels = hidden[start : start + batch][:, :, cell][..., cell, None]
            given.append(self.answer(np.where(pixels, grey, self.views))[:, self.index])
        return np.concatenate(given)


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the curve of the probability while an image is hidden cell by cell, 0 to 1.

    Attributes
    ----------
    deletion
        The most important cells are hidden first; small is good.
    insertion
        The most important cells are shown first; large is good.
    random
        The mean over random orders.
    better
        Whether insertion exceeds deletion by more than it does for any of the random orders, and by `FLAT` at least:
        below that the order of the places changes nothing. A map of chance passes one time in eight at most.
    """

    deletion: float
    insertion: float
    random: float
    better: bool


def occlusion_map(subject: Subject) -> Floats:
    """Slide a square of the image's mean colour over each view.

    Returns
    -------
    numpy.ndarray
        (views, cells, cells), -1 to 1: the probability that is lost where a cell is hidden, the mean over the squares
        that cover it; below 0 it rises.
    """
    squares = _squares(len(subject.views), subject.cells)
    given = subject.hide(np.concatenate([squares, np.zeros_like(squares[:1])]))
    return _mean_over(squares, given[-1] - given[:-1])


def _squares(views: int, cells: int) -> NDArray[np.bool_]:
    """Return all squares of two by two cells, (squares, views, cells, cells)."""
    places = [(v, r, c) for v in range(views) for r in range(cells - 1) for c in range(cells - 1)]
    squares = np.zeros((len(places), views, cells, cells), np.bool_)
    for square, (view, row, column) in zip(squares, places, strict=True):
        square[view, row : row + 2, column : column + 2] = True
    return squares


def _mean_over(squares: NDArray[np.bool_], values: Floats) -> Floats:
    """Give each cell the mean of the values of the squares that cover it."""
    return np.asarray(np.tensordot(values, squares, axes=1) / squares.sum(0))


def faithfulness(subject: Subject, drops: Floats) -> Faithfulness:
    """Check a map against the model: do the places that it names decide?

    Random orders are those of maps whose squares have random values: scattered cells would change an image in another
    way, by their edges, than the connected places of a map do.

    Parameters
    ----------
    subject
        What the map is of.
    drops
        (views, cells, cells); larger is more important. Equal cells come in a random, but reproducible order.
    """
    rng, size = np.random.default_rng(0), drops.size
    mixed, squares = rng.permutation(size), _squares(*drops.shape[:2])
    maps = [drops, *(_mean_over(squares, rng.normal(size=len(squares))) for _ in range(PAIRS))]
    forwards = [mixed[np.argsort(-values.ravel()[mixed], kind="stable")] for values in maps]
    # Showing the most important first runs through the images of hiding the least important first, backwards.
    orders = [order for forward in forwards for order in (forward, forward[::-1])]
    counts = np.linspace(0, size, STEPS + 1).round().astype(int)
    hidden = np.argsort(orders, axis=1)[:, None] < counts[1:-1, None]
    ends = np.array([[False], [True]]).repeat(size, axis=1)  # which all curves share
    given = subject.hide(np.concatenate([ends, hidden.reshape(-1, size)]).reshape(-1, *drops.shape))
    curves = np.empty((len(orders), STEPS + 1))
    curves[:, 0], curves[:, -1], curves[:, 1:-1] = given[0], given[1], given[2:].reshape(len(orders), -1)
    (deletion, insertion), *random = np.trapezoid(curves, counts / size, axis=1).reshape(-1, 2).tolist()
    better = insertion - deletion > max(FLAT, *(abs(one - other) for one, other in random))
    return Faithfulness(deletion, insertion, float(np.mean(random)), better)
