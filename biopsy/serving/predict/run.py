"""`biopsy predict`: predict the images that a person names, and write a table."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from biopsy.core.engine import open_engine
from biopsy.core.errors import BiopsyError, DataError, some, warn
from biopsy.serving.finding import names_of, only_model
from biopsy.serving.inputs import GROUPS, Found, find_images
from biopsy.serving.predict.chosen import Chosen, Faults
from biopsy.serving.predict.tables import Row, check_out, spare, write_table

if TYPE_CHECKING:
    from biopsy.serving.answering import Answers
    from biopsy.serving.figures import FiguresOf


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
    engine
        `local`, or `ray`: where .onnx files answer.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    out: Path | None = None
    by: str | None = None
    explain: Path | None = None
    engine: str = "local"


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
    KeyboardInterrupt
        Stopped; where there is a file to write, the message says how to continue.
    """
    by = options.by
    check_out(options.out)
    paths = names_of(options.models) or {"": only_model()}
    spare(options.out, map(Path, inputs), "--out")
    images = _images(inputs, options)
    from biopsy.serving.elsewhere import answers_on  # seconds, after mistakes have shown
    from biopsy.serving.predict.resume import Progress

    chosen = [Chosen(name if len(paths) > 1 else "", path, by, figures_of) for name, path in paths.items()]
    models = [one.model for one in chosen]
    pixels = max(model.card.preparation.max_pixels for model in models)
    progress = Progress(options.out, images, models, options.explain)
    if progress.done:
        print(f"{progress.done:,} of {len(images):,} images are done already.", file=sys.stderr)
    bar = tqdm(progress.left(), "predict", len(images), initial=progress.done, unit="image", delay=2, file=sys.stderr)
    asked = ((image, partial(image.source, pixels)) for image in bar)
    lost = Faults("image", "prediction", "without_prediction" if by else "error")
    undrawn = Faults("prediction", "picture", "explanation_error")
    with open_engine(options.engine) as engine, progress:
        answers = answers_on(engine, models, asked)
        if options.explain:
            answers = _explained(answers, chosen, options.explain, images[: progress.done])
        watched = _watched(progress.over(answers), chosen, lost, undrawn)
        known = [name for name in GROUPS if any(getattr(image, name) for image in images)]
        if by:
            rows = _rows_by(chosen, watched, [name for name in known if by in ("slide", name)])
        else:
            rows = _rows(chosen, watched, known)
        write_table(rows, options.out)
    for one in chosen:
        one.watch.tell(f"{one.name}: " if one.name else "")
    if faults := [each for each in (lost, undrawn) if each.count]:
        for each in faults if by else ():  # whose rows give no reasons
            warn(f"the first {each.of} without a {each.what}: {each.first}.")
        raise DataError(" ".join(each.words for each in faults))


def _images(inputs: Sequence[str], options: Options) -> list[Found]:
    """Find the images. Raises `DataError` where one has no case, and `ParamsError` where pictures have no folder."""
    images, by = find_images(inputs), options.by
    if by and (unknown := [image.name for image in images if not getattr(image, by)]):
        raise DataError(
            f"--by {by}: {len(unknown):,} of {len(images):,} images have no {by} ({some(unknown, 3)}). Name a .csv "
            f"with the columns path and {by}."
        )
    if options.explain is None:
        return images
    from biopsy.serving.explain.files import check_folder, without_pictures

    check_folder(options.explain, "--explain")
    return without_pictures(images)


def _watched(answers: "Answers", chosen: Sequence[Chosen], lost: Faults, undrawn: Faults) -> "Answers":
    """Pass answers on; count images that a model has no answer about, and answers without a picture."""
    for image, given in answers:
        for one, told in zip(chosen, given, strict=True):
            one.watch.see(told)
            if told.no_picture:
                undrawn.add(told.no_picture)
        if errors := [told.error for told in given if told.error]:
            lost.add(errors[0])
        yield image, given


def _explained(answers: "Answers", chosen: Sequence[Chosen], folder: Path, done: Sequence[Found]) -> "Answers":
    """Pass answers on with a picture each, or why there is none; the names of those of `done` are taken."""
    from biopsy.serving.decoding import named
    from biopsy.serving.explain.files import Pictures, draw_one

    pictures = Pictures(folder, "--explain")

    def targets(image: Found) -> list[Path]:
        stem = Path(image.name).stem
        return [pictures.target(f"{stem}-{one.name}" if one.name else stem) for one in chosen]

    for image in done:
        targets(image)
    for image, given in answers:
        told = []
        for one, answer, target in zip(chosen, given, targets(image), strict=True):
            drawn, reason = "", ""
            try:
                if not answer.error:
                    draw_one(one.model, image, target)
                    drawn = str(target)
            except BiopsyError as error:
                reason = named(str(error), image.name)
            told.append(replace(answer, picture=drawn, no_picture=reason))
        yield image, tuple(told)


def _rows(chosen: Sequence[Chosen], answers: "Answers", groups: Sequence[str]) -> Iterator[list[Row]]:
    """Make the rows of images, with their case and slide where they are known."""
    for image, given in answers:
        yield [one.row(image, groups, told) for one, told in zip(chosen, given, strict=True)]


def _rows_by(chosen: Sequence[Chosen], answers: "Answers", groups: Sequence[str]) -> Iterator[list[Row]]:
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
