"""The models of `biopsy predict` while they answer: what a row tells, and what shows only when all have answered."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from biopsy.core.errors import warn
from biopsy.serving.inputs import Found
from biopsy.serving.predict.tables import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biopsy.serving.answering import Answer
    from biopsy.serving.figures import FiguresOf


class Chosen:
    """A model, and what is told with its answers.

    Attributes
    ----------
    name
        Empty if it is the only one.
    model, watch
        The model itself, and what watches its answers.
    sets, unsure
        `sets(probabilities)` names the classes that a case may be; `unsure(probabilities)` says whether those of an
        image or case are too unsure to answer; None: not known.
    """

    def __init__(self, name: str, path: Path, by: str | None, figures_of: "FiguresOf | None") -> None:
        """Load it, and say what it is; `by` is what a row is of, None: an image."""
        from biopsy.serving.cases import promises_of, sets_of, unsure_of
        from biopsy.serving.model import Model, describe

        self.name, self.model, self.watch = name, Model(path), Watch()
        print(f"{name}: {describe(self.model.card)}" if name else describe(self.model.card), file=sys.stderr)
        promises = {} if by == "slide" else promises_of(self.model, figures_of)
        self.sets = sets_of(promises, self.model.card.classes) if by == "case" else None
        self.unsure: Callable[[NDArray[np.float64]], bool] | None = unsure_of(promises, by or "image")

    @property
    def column(self) -> Row:
        """What a row tells of the model: its name, if it has one."""
        return {"model": self.name} if self.name else {}

    def row(self, image: Found, groups: Sequence[str], given: "Answer") -> Row:
        """Make a row of an image, with its case and slide where they are known."""
        row = self.model.row(image.name, given)
        if not self.model.knows_training:
            del row["unlike_training"]
        if self.unsure:
            row["abstain"] = None if given.error else self.unsure(given.probabilities)
        if given.picture is not None:
            row |= {"explanation": given.picture, "explanation_error": given.no_picture}
        return {"image": image.name, **{name: getattr(image, name) for name in groups}, **self.column, **row}


class Watch:
    """What shows only when a model has answered about all images."""

    def __init__(self) -> None:
        self._images = self._answered = self._learnt = self._unlike = 0
        self._same = True
        self._first: list[float] | None = None

    def see(self, given: "Answer") -> None:
        """Count an answer."""
        self._images += 1
        self._learnt += bool(given.learnt)
        self._unlike += bool(given.unlike)
        if not given.error:
            self._answered += 1
            shown = given.probabilities.round(6).tolist()
            self._first = self._first or shown
            self._same &= shown == self._first

    def tell(self, model: str = "", learnt: bool = True) -> None:
        """Warn where a model does not look at its images, has learnt from them, or was not made for them.

        Parameters
        ----------
        model
            Its name, with a colon; empty of the only one.
        learnt
            Whether to tell of images that it has learnt from.
        """
        if learnt and self._learnt:
            warn(
                f"{model}{self._learnt:,} of {self._images:,} images are training or validation images of this model, "
                "so it does better on them than on new ones. See the column 'in_training'."
            )
        if self._unlike:
            warn(
                f"{model}{self._unlike:,} of {self._images:,} images look unlike the training images, so their "
                "predictions may be unreliable. See the column 'unlike_training' of the table of images."
            )
        if self._same and self._answered > 1:
            warn(
                f"{model}all {self._answered:,} images got the same probabilities. Unless they are copies of one "
                "image, the model has learnt nothing, or was not made for such images."
            )


@dataclass
class Faults:
    """What is missing in the table: how often, and why for the first time."""

    of: str
    what: str
    column: str
    count: int = 0
    first: str = ""

    def add(self, reason: str) -> None:
        """Count one."""
        self.count += 1
        self.first = self.first or reason

    @property
    def words(self) -> str:
        """Say it in two sentences."""
        does = "counts them" if self.column == "without_prediction" else "says why"
        return (
            f"{self.count:,} of the {self.of}s {'has' if self.count == 1 else 'have'} no {self.what}. "
            f"The column '{self.column}' {does}."
        )
