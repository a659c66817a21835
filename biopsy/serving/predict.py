"""`biopsy predict`: predict the images that a person names, and write a table as it grows."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from biopsy.core.errors import BiopsyError, DataError, some, warn
from biopsy.serving.chosen import Chosen, Faults
from biopsy.serving.finding import names_of, only_model
from biopsy.serving.inputs import GROUPS, Found, find_images
from biopsy.serving.tables import Row, check_out, write_table

if TYPE_CHECKING:
    from biopsy.serving.answering import Answer
    from biopsy.serving.explain_files import Pictures
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
        A file of one of `tables.KINDS` to write; None: CSV on the standard output.
    by
        'case' or 'slide': write a row for each of these; None: for each image.
    explain
        A folder for a picture of each image that shows where each model looks; None: no pictures.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    out: Path | None = None
    by: str | None = None
    explain: Path | None = None


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
    check_out(out)
    paths = names_of(options.models) or {"": only_model()}
    images = find_images(inputs)
    if by and (unknown := [image.name for image in images if not getattr(image, by)]):
        raise DataError(
            f"--by {by}: {len(unknown):,} of {len(images):,} images have no {by} ({some(unknown, 3)}). Name a .csv "
            f"with the columns path and {by}."
        )
    from biopsy.serving.answering import answers_of  # seconds, after mistakes have shown

    if options.explain:
        from biopsy.serving.explain_files import Pictures, check_folder, without_pictures

        check_folder(options.explain, "--explain")
        images = without_pictures(images)
    chosen = [Chosen(name if len(paths) > 1 else "", path, by, figures_of) for name, path in paths.items()]
    pixels = max(one.model.card.preparation.max_pixels for one in chosen)
    bar = tqdm(images, "predict", unit="image", delay=2, file=sys.stderr)
    asked = ((image, partial(image.source, pixels)) for image in bar)
    answers = answers_of([one.model for one in chosen], asked)
    if options.explain:
        answers = _explained(answers, chosen, Pictures(options.explain, "--explain"))
    lost = Faults("image", "prediction", "without_prediction" if by else "error")
    undrawn = Faults("prediction", "picture", "explanation_error")
    answers = _watched(answers, chosen, lost, undrawn)
    known = [name for name in GROUPS if any(getattr(image, name) for image in images)]
    if by:
        rows = _rows_by(chosen, answers, [name for name in known if by in ("slide", name)])
    else:
        rows = (
            [one.row(image, known, told) for one, told in zip(chosen, given, strict=True)] for image, given in answers
        )
    write_table(rows, out)
    for one in chosen:
        one.watch.tell(f"{one.name}: " if one.name else "")
    if faults := [each for each in (lost, undrawn) if each.count]:
        for each in faults if by else ():  # whose rows give no reasons
            warn(f"the first {each.of} without a {each.what}: {each.first}.")
        raise DataError(" ".join(each.words for each in faults))


def _watched(answers: Answers, chosen: Sequence[Chosen], lost: Faults, undrawn: Faults) -> Answers:
    """Pass answers on; count images that a model has no answer about, and answers without a picture."""
    from biopsy.serving.decoding import named

    for image, given in answers:
        for one, told in zip(chosen, given, strict=True):
            one.watch.see(told)
            if told.no_picture:
                undrawn.add(told.no_picture)
        if errors := [told.error for told in given if told.error]:
            lost.add(named(errors[0], image.name))
        yield image, given


def _explained(answers: Answers, chosen: Sequence[Chosen], pictures: "Pictures") -> Answers:
    """Pass answers on with a picture each; one that cannot be drawn has a reason."""
    from biopsy.serving.decoding import named
    from biopsy.serving.explain_files import draw_one

    for image, given in answers:
        told = []
        for one, answer in zip(chosen, given, strict=True):
            stem = Path(image.name).stem
            target = pictures.target(f"{stem}-{one.name}" if one.name else stem)
            drawn, reason = "", ""
            try:
                if not answer.error:
                    draw_one(one.model, image, target)
                    drawn = str(target)
            except BiopsyError as error:
                reason = named(str(error), image.name)
            told.append(replace(answer, picture=drawn, no_picture=reason))
        yield image, tuple(told)


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
