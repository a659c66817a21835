"""What one model is: task, protocol, seed and, in a cross-validation, the fold; and where its files lie."""

from dataclasses import dataclass, replace
from pathlib import Path

from biopsy.core.layout import LABELS, SPLITS
from biopsy.core.protocol import Fold, parse_protocol


@dataclass(frozen=True)
class Job:
    """One row of the results: one model, or the models of all folds of a cross-validation, or one of these.

    Attributes
    ----------
    task, protocol
        As params.yaml names them.
    seed
        Of the training.
    root
        The project's folder.
    fold
        The fold of a cross-validation that is trained and tested; None: all of them.
    """

    task: str
    protocol: str
    seed: int = 0
    root: Path = Path()
    fold: Fold | None = None

    @property
    def name(self) -> str:
        """Its folder in models/, metrics/ and plots/; folds lie below it."""
        return f"{self.task}-{self.protocol}"

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.name}, fold {self.fold.name}" if self.fold else self.name

    @property
    def each(self) -> "list[Job]":
        """The models that are trained one after the other: one per fold, or itself."""
        folds = [] if self.fold else parse_protocol(self.protocol).folds
        return [replace(self, fold=fold) for fold in folds] or [self]

    @property
    def labels(self) -> Path:
        """The labelled table."""
        return self.root / LABELS

    @property
    def split(self) -> Path:
        """The table of parts, or of folds in a cross-validation."""
        return self.root / SPLITS / f"{self.protocol}.csv"

    @property
    def model(self) -> Path:
        """The folder of the model and its card."""
        return self.within(self.root / "models" / self.name)

    @property
    def resume(self) -> Path:
        """Where an unfinished training is kept, outside DVC's outputs."""
        return self.within(self.root / "models/.resume" / self.name)

    @property
    def metrics(self) -> Path:
        """The folder of metrics, the same for all folds."""
        return self.root / "metrics" / self.name

    @property
    def plots(self) -> Path:
        """The folder of pictures, the same for all folds."""
        return self.root / "plots" / self.name

    def within(self, folder: Path) -> Path:
        """Return the fold's own folder in one that all folds share; without a fold, the folder itself."""
        return folder / self.fold.name if self.fold else folder
