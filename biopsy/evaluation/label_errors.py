"""Probable label errors by confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021), the rule of cleanlab.

An image counts confidently as a class where its probability reaches the mean that the class has over the images so
labelled; of several, as the most probable. Where that is another class than its label, and also the most probable of
all, the label is probably wrong: `find_label_issues` of cleanlab with `filter_by="confident_learning"`. The
probabilities must come from models that have not learnt from the image.
"""

from dataclasses import dataclass

import numpy as np

from biopsy.evaluation.outcome import Outcome

TINY = 1e-6  # cleanlab's own, so that a class whose images all have the same probability reaches its mean


@dataclass(frozen=True)
class LabelError:
    """An image, by its row, whose label is probably wrong: what it is labelled, what it seems, and how surely.

    Attributes
    ----------
    margin
        Probability of what it seems minus that of its label, 0 to 1.
    """

    row: int
    label: str
    seems: str
    margin: float


def find_label_errors(outcome: Outcome) -> list[LabelError]:
    """List the images whose label is probably wrong, the surest first; images of an equal margin by their rows."""
    truth, p = outcome.truth, outcome.probabilities
    rows = np.arange(len(truth))
    means = np.full(p.shape[1], np.inf)  # of a class that labels no image nothing can be confident
    for i in outcome.present:
        means[i] = p[truth == i, i].mean()
    confident = p >= means - TINY
    seems = np.where(confident, p, -1.0).argmax(1)
    wrong = confident.any(1) & (seems != truth) & (p.argmax(1) != truth)
    margins = p[rows, seems] - p[rows, truth]
    order = [int(i) for i in np.lexsort((rows, -margins.round(9))) if wrong[i]]
    return [LabelError(i, outcome.classes[truth[i]], outcome.classes[seems[i]], float(margins[i])) for i in order]
