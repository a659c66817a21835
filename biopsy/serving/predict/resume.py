"""What `biopsy predict` has answered already, in a journal beside its table."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from biopsy.core.errors import warn
from biopsy.serving.answering import Answer, Answers, batch_of
from biopsy.serving.inputs import Found
from biopsy.serving.journal import ROUNDED, Journal
from biopsy.serving.model import Model

OTHER = "of other models or another --explain, so all images are predicted again."


class Progress:
    """The answers of an earlier call that was stopped, and those of this one.

    An image of another size or time than then is asked about again, and so are all after it, and those before it in its
    batch.

    Attributes
    ----------
    done
        How many images, from the first on, are answered.
    """

    def __init__(
        self, out: Path | None, images: Sequence[Found], models: Sequence[Model], pictures: Path | None
    ) -> None:
        """Look for the journal of the table `out`, None: there is none; `pictures` is the folder of `--explain`."""
        self.done, self._images, self._keys = 0, images, deque[list[Any]]()
        self._classes = [len(model.card.classes) for model in models]
        self._journal: Journal | None = None
        if out:
            about = {"models": [model.sha256 for model in models], "explain": pictures and str(pictures)}
            head, place = f"# {json.dumps(about)}\n".encode(), out.with_name(f"{out.name}.unfinished")
            self._journal = Journal(place, head, batch_of(models), OTHER, self._fits)
            self.done = self._journal.done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the journal, once the table is written; after Ctrl-C say what is done."""
        if self._journal is None:
            return
        if kind is None:
            self._journal.forget()
        self._journal.release()
        if kind is KeyboardInterrupt:
            kept = self.done - self.done % self._journal.batch
            raise KeyboardInterrupt(
                f"{kept:,} of {len(self._images):,} images are done. Repeat the command to continue."
            ) from None

    def _fits(self, number: int, line: bytes) -> bool:
        """Say whether a line is about an image as it is now, and its pictures are still there."""
        try:
            key, told = json.loads(line)
            answers = [_read(one) for one in told]
        except (ValueError, TypeError, KeyError):
            return False
        if [len(answer.probabilities) or n for answer, n in zip(answers, self._classes, strict=False)] != self._classes:
            return False
        if [answer.error for answer in answers] != [one["error"] for one in told]:  # of what is no number
            return False
        if not all(answer.error or abs(answer.probabilities.sum() - 1) < ROUNDED for answer in answers):
            return False
        pictures = [answer.picture for answer in answers if answer.picture]
        if number == len(self._images):  # there were more
            return False
        image = self._images[number]
        if key == _key(image) and all(Path(picture).is_file() for picture in pictures):
            return True
        warn(f"{image.name} is not what it was when predict was stopped: it and all after it are predicted again.")
        return False

    def left(self) -> Iterator[Found]:
        """Yield the images that are not answered yet, each as its turn comes."""
        for image in islice(self._images, self.done, None):
            if self._journal:
                self._keys.append(_key(image))  # before it is read: what changes now is seen by the next call
            yield image

    def over(self, answers: Answers) -> Answers:
        """Write the answers about `left` down, and then give all there are; without a journal pass them on."""
        if self._journal is None:
            return answers
        with self._journal.open() as lines:
            for _, given in answers:
                lines.write(f"{json.dumps([self._keys.popleft(), [_told(answer) for answer in given]])}\n")
                self.done += 1
        return self._all()

    def _all(self) -> Answers:
        assert self._journal
        for image, line in zip(self._images, self._journal.lines(), strict=True):
            yield image, tuple(_read(told) for told in json.loads(line)[1])


def _key(image: Found) -> list[Any]:
    """Say which file an image is, and whether it is as it was: its name, bytes and time; of an archive, these of it."""
    try:
        status = image.path.stat()
    except OSError:
        return [image.name, None, None]
    return [image.name, status.st_size, status.st_mtime_ns]


def _told(answer: Answer) -> dict[str, Any]:
    """Write an answer, to the last digit, without what no row tells."""
    return {
        "probabilities": answer.probabilities.tolist(),
        "error": answer.error,
        "learnt": answer.learnt,
        "unlike": answer.unlike,
        "picture": answer.picture,
        "no_picture": answer.no_picture,
    }


def _read(told: dict[str, Any]) -> Answer:
    """Read what `_told` wrote."""
    unlike = None if told["unlike"] is None else tuple(told["unlike"])
    return Answer(**told | {"probabilities": np.array(told["probabilities"], np.float64), "unlike": unlike})
