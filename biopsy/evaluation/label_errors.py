"""Probable label errors by confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021), the rule of cleanlab.

An image is confidently of a class if its probability reaches the mean probability of that class over the images with
that label; of several, the most probable counts. If this class is not the label, and is the most probable of all, the
label is probably wrong: `find_label_issues` of cleanlab with `filter_by="confident_learning"`. The probabilities must
come from models that have not learnt from the image.
"""

from dataclasses import dataclass

import numpy as np

from biopsy.evaluation.outcome import Outcome

TINY = 1e-6  # cleanlab's own, so that a class whose images all have the same probability reaches its mean


@dataclass(frozen=True)
class LabelError:
    """A row whose label is probably wrong: the label, the class that it seems to be, and by what margin.

    Attributes
    ----------
    margin
        Probability of the class that it seems to be minus that of its label, 0 to 1.
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
