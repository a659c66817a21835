"""What a reader of a prediction must know of its model: classes, training, figures."""

import json
from typing import Any

from biopsy.core.protocol import PUBLIC
from biopsy.images.looks.record import SHORT
from biopsy.networks.model_file import NOTICE
from biopsy.serving.cases import SETS, promises_of, set_threshold, unsure_below
from biopsy.serving.explain.image import methods_of
from biopsy.serving.model import Model

PROTOCOLS = {
    "case": "no patient's images are in both training and test",
    "slide": "no slide's images are in both training and test, but a patient's may be",
    "image": "a slide's images may be in both training and test, so the figures are too high",
    "given": "training and test are as the table of images gives them",
} | dict.fromkeys(PUBLIC, "a patient's images may be in both training and test, so the figures are too high")

LOOKS = {**SHORT, "features": "the network's features"}  # in what an image may be unlike training


def about(name: str, model: Model) -> dict[str, Any]:
    """Describe a model for a page or a program.

    Returns
    -------
    dict
        What JSON can hold; `figures` and `parity` are None where they are not known. `members`: of how many models an
        ensemble is the mean, of which as a whole there are no figures; 0: it is one model. `unsure_below`: the largest
        probability below which an image, or the mean of a case, is too unsure; `case_sets`: a class may be that of a
        case where its mean probability is at least this, which holds for a share of new cases; None: not known.
    """
    card, facts = model.card, model.facts
    task = card.labels[card.task]
    promises, share = promises_of(model, None), float(SETS)
    kept = set_threshold(promises)
    known = {key: json.loads(facts[key]) if key in facts else None for key in ("figures", "parity")}
    return {
        "name": name,
        "task": card.task,
        "protocol": card.protocol,
        "protocol_means": PROTOCOLS.get(card.protocol.partition("-")[0], ""),
        "synthetic": card.synthetic,
        "classes": [
            {"name": c.name, "words": c.words, "colour": c.colour, "positive": c.name in task.positive}
            for c in task.classes
        ],
        "threshold": card.threshold if len(card.classes) == 2 else None,
        "temperature": card.temperature,
        "unsure_below": {unit: unsure_below(promises, unit) for unit in ("image", "case")},
        "case_sets": None if kept is None else {"share": share, "at_least": round(1 - kept, 6)},
        "members": len(card.members),
        "size": card.preparation.size,
        "backbone": card.params.get("model", {}).get("backbone"),
        "explains": methods_of(model),
        "model_sha256": card.model_sha256,
        "notice": NOTICE,
        **known,
    }
