"""`biopsy predict`: predict the images that a person names, and write a table as it grows."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from biopsy.core.errors import DataError, ParamsError, SourceError, some, warn
from biopsy.core.files import atomic_file
from biopsy.serving.inputs import GROUPS, Found, find_images

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biopsy.images.looks.record import Looks
    from biopsy.serving.figures import FiguresOf
    from biopsy.serving.model import Answer, Model
    from biopsy.serving.similar import Similar

KINDS = (".csv", ".json", ".jsonl")
Answers = Iterator[tuple[Found, "Answer"]]
Unsure = Callable[["NDArray[np.float64]"], bool] | None  # of probabilities, (classes,)


def predict_files(
    inputs: Sequence[str],
    path: Path | None,
    out: Path | None,
    by: str | None = None,
    figures_of: "FiguresOf | None" = None,
) -> int:
    """Predict images and write a row for each, or for each case; return how many images have no prediction.

    Parameters
    ----------
    inputs
        As for `find_images`.
    path
        The model, a folder or an .onnx file; None: the only one of `find_models`.
    out
        A .csv, .json or .jsonl to write; None: CSV on the standard output.
    by
        'case' or 'slide': write a row for each of these; None: for each image.
    figures_of
        How to find the test figures of a folder, for prediction sets and abstaining; an .onnx file holds its own.

    Raises
    ------
    ParamsError, DataError, SourceError
        No image, no model or more than one, another kind of file than these, an image whose case is not known.
    """
    if out and out.suffix not in KINDS:
        raise ParamsError(f"--out: {out} must end in {', '.join(KINDS)}.")
    path = path or only_model()
    images = find_images(inputs)
    if by and (unknown := [image.name for image in images if not getattr(image, by)]):
        raise DataError(
            f"--by {by}: {len(unknown):,} of {len(images):,} images have no {by} ({some(unknown, 3)}). Name a .csv "
            f"with the columns path and {by}."
        )
    from biopsy.serving.cases import by_group, promises_of, sets_of, unsure_of  # seconds, after mistakes have shown
    from biopsy.serving.model import Model, describe

    model = Model(path)
    print(describe(model.card), file=sys.stderr)
    pixels = model.card.preparation.max_pixels
    bar = tqdm(images, "predict", unit="image", delay=2, file=sys.stderr)
    watch = Watch(model.similar)
    given = ((image, partial(image.source, pixels)) for image in bar)
    answers = watch.over(
        model.answers(given, partial(watch.look, model.card.training) if model.card.training else None)
    )
    known = [name for name in GROUPS if any(getattr(image, name) for image in images)]
    promises = {} if by == "slide" else promises_of(model, figures_of)
    sets = sets_of(promises, model.card.classes) if by == "case" else None
    unsure = unsure_of(promises, by or "image")
    rows = (
        by_group(model, answers, [n for n in known if by == "slide" or n == by], sets, unsure)
        if by
        else _rows(model, answers, known, watch.unlike if model.card.training or model.similar else None, unsure)
    )
    with _opened(out) as stream:
        _write(rows, stream, out.suffix if out else ".csv")
    watch.tell()
    if by and watch.failed:  # whose rows give no reasons
        warn(f"the first image without a prediction: {watch.reason}.")
    return watch.failed


class Watch:
    """What shows only when all images are answered.

    Attributes
    ----------
    failed, answered
        Images without a prediction, and with one.
    reason
        Why the first of these has no prediction.
    learnt
        Images that the model has learnt from.
    same
        Whether all of these got the same probabilities.
    unlike
        Of images far outside the training images, in which numbers.
    """

    def __init__(self, similar: "Similar | None" = None) -> None:
        """Start with nothing seen; `similar` is the model's."""
        self.similar = similar
        self.failed = self.answered = self.learnt = 0
        self.unlike: dict[Found, str] = {}
        self.reason = ""
        self.same = True
        self._first: list[float] | None = None

    def over(self, answers: Answers) -> Answers:
        """Pass answers on."""
        from biopsy.serving.decoding import named  # long since loaded, with the model

        for image, given in answers:
            self.learnt += bool(given.learnt)
            if given.error:
                self.failed += 1
                self.reason = self.reason or named(given.error, image.name)
            else:
                self.answered += 1
                if self.similar and given.features is not None:
                    (distances,) = self.similar.distances(given.features[None])
                    if self.similar.far(distances):
                        self.unlike[image] = f"{self.unlike.get(image, '')} features".strip()
                shown = given.probabilities.round(6).tolist()
                self._first = self._first or shown
                self.same &= shown == self._first
            yield image, given

    def look(self, training: "Looks", image: Found, views: "NDArray[np.uint8]") -> None:
        """Compare an image, as the network sees it, with the training images."""
        from biopsy.images.looks.measure import look_at  # long since loaded, with the model

        if names := training.unlike(look_at(views)):
            self.unlike[image] = " ".join(names)

    def tell(self) -> None:
        """Warn where a model does not look at its images, has learnt from them, or was not made for them."""
        if self.learnt:
            warn(
                f"{self.learnt:,} of {self.failed + self.answered:,} images are training or validation images of this "
                "model, so it does better on them than on new ones. See the column 'in_training'."
            )
        if self.unlike:
            warn(
                f"{len(self.unlike):,} of {self.answered + self.failed:,} images look unlike the training images, so "
                "their predictions may be unreliable. The column 'unlike_training' of a table by image says how."
            )
        if self.same and self.answered > 1:
            warn(
                f"all {self.answered:,} images got the same probabilities. Unless they are copies of one image, the "
                "model has learnt nothing, or was not made for such images."
            )


def _rows(
    model: "Model", answers: Answers, groups: Sequence[str], unlike: Mapping[Found, str] | None, unsure: Unsure
) -> Iterator[dict[str, Any]]:
    """Make a row of each image, with its case and slide where known; what is `unlike` training, and what `unsure`."""
    for image, given in answers:
        row = model.row(image.name, given)
        told: dict[str, Any] = {} if unlike is None else {"unlike_training": unlike.get(image, "")}
        if unsure:
            told["abstain"] = None if given.error else unsure(given.probabilities)
        known = {name: getattr(image, name) for name in groups}
        yield {"image": row.pop("image"), **known, **row, **told}


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


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Open the table to write: whole or not at all where it is a file."""
    if out is None:
        yield sys.stdout
        return
    with (
        atomic_file(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def _write(rows: Iterable[dict[str, Any]], stream: TextIO, kind: str) -> None:
    """Write each row as it comes; all have the same keys."""
    table = None
    before, between, after = ("[", ",", "]\n") if kind == ".json" else ("", "", "")
    for row in rows:
        clean = {name: "" if value != value else value for name, value in row.items()}  # NaN: no prediction
        if kind == ".csv":
            if table is None:
                table = csv.DictWriter(stream, list(row), lineterminator="\n")
                table.writeheader()
            table.writerow(clean)
        else:
            told = {name: None if value == "" else value for name, value in clean.items()}
            stream.write(f"{before}{json.dumps(told)}\n")
            before = between
    stream.write(after)
