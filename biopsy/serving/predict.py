"""`biopsy predict`: predict the images that a person names, and write a table as it grows."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from biopsy.core.errors import DataError, ParamsError, SourceError, some, warn
from biopsy.core.layout import model_name
from biopsy.serving.inputs import GROUPS, Found, find_images
from biopsy.serving.tables import KINDS, Row, write_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biopsy.serving.answering import Answer
    from biopsy.serving.figures import FiguresOf

Answers = Iterator[tuple[Found, "tuple[Answer, ...]"]]  # of each model one


@dataclass(frozen=True)
class Options:
    """What a person asks for.

    Attributes
    ----------
    models
        Folders or .onnx files, by the words that name them; none: the only one of `find_models`.
    out
        A file of one of `KINDS` to write; None: CSV on the standard output.
    by
        'case' or 'slide': write a row for each of these; None: for each image.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    out: Path | None = None
    by: str | None = None


def predict_files(inputs: Sequence[str], options: Options, figures_of: "FiguresOf | None" = None) -> None:
    """Predict images and write a row for each, or for each case, and each model.

    Parameters
    ----------
    inputs
        As for `find_images`.
    options
        See `Options`.
    figures_of
        How to find the test figures of a folder, for prediction sets and abstaining; an .onnx file holds its own.

    Raises
    ------
    ParamsError, DataError, SourceError
        No image, no model or more than one, another kind of file than these, an image whose case is not known; or, once
        the table is written, images without a prediction.
    """
    out, by = options.out, options.by
    if out and out.suffix not in KINDS:
        raise ParamsError(f"--out: {out} must end in {', '.join(KINDS)}.")
    paths = _names(options.models) or {"": only_model()}
    images = find_images(inputs)
    if by and (unknown := [image.name for image in images if not getattr(image, by)]):
        raise DataError(
            f"--by {by}: {len(unknown):,} of {len(images):,} images have no {by} ({some(unknown, 3)}). Name a .csv "
            f"with the columns path and {by}."
        )
    from biopsy.serving.answering import answers_of  # seconds, after mistakes have shown

    chosen = [Chosen(name if len(paths) > 1 else "", path, by, figures_of) for name, path in paths.items()]
    pixels = max(one.model.card.preparation.max_pixels for one in chosen)
    bar = tqdm(images, "predict", unit="image", delay=2, file=sys.stderr)
    failed: list[str] = []
    answers = _watched(
        answers_of([one.model for one in chosen], ((image, partial(image.source, pixels)) for image in bar)),
        chosen,
        failed,
    )
    known = [name for name in GROUPS if any(getattr(image, name) for image in images)]
    write_table(
        _rows_by(chosen, answers, [name for name in known if by in ("slide", name)])
        if by
        else (
            [one.row(image, known, told) for one, told in zip(chosen, given, strict=True)] for image, given in answers
        ),
        out,
    )
    for one in chosen:
        one.watch.tell(f"{one.name}: " if one.name else "")
    if failed:
        if by:  # whose rows give no reasons
            warn(f"the first image without a prediction: {failed[0]}.")
        why = "The column 'without_prediction' counts them." if by else "The column 'error' says why."
        raise DataError(f"{len(failed)} of the images {'has' if len(failed) == 1 else 'have'} no prediction. {why}")


class Chosen:
    """A model, and what is told with its answers.

    Attributes
    ----------
    name
        Empty of the only one.
    model, watch
        Itself, and what it answered.
    sets, unsure
        From the probabilities of a case to the classes that it may be, and of an image or case to whether they are too
        unsure; None: not known.
    """

    def __init__(self, name: str, path: Path, by: str | None, figures_of: "FiguresOf | None") -> None:
        """Load it, and say what it is."""
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
        if not (self.model.card.training or self.model.similar):
            del row["unlike_training"]
        if self.unsure:
            row["abstain"] = None if given.error else self.unsure(given.probabilities)
        return {"image": image.name, **{name: getattr(image, name) for name in groups}, **self.column, **row}


def _watched(answers: Answers, chosen: Sequence[Chosen], failed: list[str]) -> Answers:
    """Pass answers on; add the reason of each image that a model has no answer about to `failed`."""
    from biopsy.serving.decoding import named

    for image, given in answers:
        for one, told in zip(chosen, given, strict=True):
            one.watch.see(told)
        if errors := [told.error for told in given if told.error]:
            failed.append(named(errors[0], image.name))
        yield image, given


def _rows_by(chosen: Sequence[Chosen], answers: Answers, groups: Sequence[str]) -> Iterator[list[Row]]:
    """Make the rows of cases or slides."""
    from biopsy.serving.cases import Groups

    found = [Groups(one.model, groups, one.sets, one.unsure) for one in chosen]
    for image, given in answers:
        for one, told in zip(found, given, strict=True):
            one.add(image, told)
    for rows in zip(*(one.rows() for one in found), strict=True):
        yield [
            {**{name: row[name] for name in groups}, **one.column, **row} for one, row in zip(chosen, rows, strict=True)
        ]


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

    def tell(self, model: str = "") -> None:
        """Warn where a model does not look at its images, has learnt from them, or was not made for them."""
        if self._learnt:
            warn(
                f"{model}{self._learnt:,} of {self._images:,} images are training or validation images of this model, "
                "so it does better on them than on new ones. See the column 'in_training'."
            )
        if self._unlike:
            warn(
                f"{model}{self._unlike:,} of {self._images:,} images look unlike the training images, so their "
                "predictions may be unreliable. The column 'unlike_training' of a table by image says how."
            )
        if self._same and self._answered > 1:
            warn(
                f"{model}all {self._answered:,} images got the same probabilities. Unless they are copies of one "
                "image, the model has learnt nothing, or was not made for such images."
            )


def find_models(root: Path = Path()) -> list[Path]:
    """List the model folders in models/, or, where there are none, the files in exports/."""
    folders = sorted(path.parent for path in (root / "models").glob("*/model.json"))
    return folders or sorted((root / "exports").glob("*.onnx"))


def only_model() -> Path:
    """Return the one model here. Raises `SourceError` where there is none, or a choice."""
    found = find_models()
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError(
            "models/ has no model. Name one with --model, get one with `dvc pull`, or train one with `dvc repro`."
        )
    raise SourceError(f"{found[0].parent}/ holds several models: {some(found, 8)}. Name one with --model.")


def short_name(path: Path) -> str:
    """Return what a model's folder or file is called, without where it is."""
    return path.resolve().stem if path.suffix.lower() == ".onnx" else model_name(path)


def _names(models: Mapping[str, Path]) -> dict[str, Path]:
    """Call models by their short names; those that share one as the person did."""
    short = [short_name(path) for path in models.values()]
    return {
        name if short.count(name) == 1 else words: path
        for name, (words, path) in zip(short, models.items(), strict=True)
    }
