"""One answer for each case or slide, of those for its images."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from biopsy.core.text import id_key
from biopsy.serving.inputs import Found
from biopsy.serving.model import Answer, Model


def by_group(model: Model, answers: Iterable[tuple[Found, Answer]], groups: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Average the probabilities of each case over its images, as the test does, and choose its class by the mean.

    Parameters
    ----------
    model
        What answered.
    answers
        Each image with its answer.
    groups
        What a row is of: case, slide, or both, where slides of two cases may have one name.

    Yields
    ------
    dict
        The groups; `predicted`, `p_<class>` (0 to 1), empty where no image has a prediction; the numbers of `images`
        and of those `without_prediction` and `in_training` (None: not known). In the order of the first images; ids
        that differ in letter case or blanks are one, written as the first.
    """
    names: dict[tuple[str, ...], list[str]] = {}
    sums: dict[tuple[str, ...], Any] = {}
    counts: dict[tuple[str, ...], list[int]] = {}
    for image, given in answers:
        ids = [getattr(image, group) for group in groups]
        key = tuple(map(id_key, ids))
        names.setdefault(key, ids)
        count = counts.setdefault(key, [0, 0, 0])
        count[0] += 1
        count[2] += bool(given.learnt)
        if given.error:
            count[1] += 1
        else:
            sums[key] = sums.get(key, 0) + given.probabilities
    for key, ids in names.items():
        images, without, learnt = counts[key]
        row = model.row("", Answer(sums[key] / (images - without)) if key in sums else Answer(np.empty(0), "none"))
        shown = {name: value for name, value in row.items() if name not in ("image", "error", "in_training")}
        numbers = {
            "images": images,
            "without_prediction": without,
            "in_training": None if model.learnt is None else learnt,
        }
        yield {**dict(zip(groups, ids, strict=True)), **shown, **numbers}
