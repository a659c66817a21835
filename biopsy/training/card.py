"""What a training depends on: the card that goes with its model, and a name for it by which it is resumed."""

import hashlib
import json
from typing import Any

from biopsy.core.encoders import terms_of
from biopsy.core.files import read_json, sha256
from biopsy.core.job import Job
from biopsy.core.layout import SOURCE
from biopsy.core.params import Params
from biopsy.images.preparation.record import Preparation
from biopsy.networks.backbones.registry import find
from biopsy.networks.backend import keras, libraries
from biopsy.networks.model_file import Card
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.slides.extra_inputs import Encoder


def describe(
    params: Params, job: Job, scheme: LabelScheme, preparation: Preparation, encoder: Encoder | None,
    data: dict[str, str],
) -> Card:  # fmt: skip
    """Make the card of a model that is yet to be trained.

    Parameters
    ----------
    params, job
        What is trained.
    scheme, preparation
        As the stages before it have written them.
    encoder
        Of the inputs beside the pixels; None: there are only pixels.
    data
        SHA-256 of what was read, by name.

    Returns
    -------
    Card
        At temperature 1 and threshold 0.5.
    """
    chosen = params.model_dump(include={"seed", "resize", "model", "augment", "train"})
    chosen["train"]["epochs"] = params.train.epochs_of(job.task)
    chosen["model"]["weights"] = params.model.weights_name
    del chosen["train"]["cache_mb"]  # it says what is kept on this machine, and changes no result
    weights = params.model.weights_file
    return Card(
        task=job.task,
        protocol=job.protocol,
        fold=job.fold.name if job.fold else None,
        labels=scheme,
        preparation=preparation,
        preprocessing=find(params.model.backbone).preprocessing,
        extra_inputs=encoder,
        threshold=0.5,
        synthetic=read_json(job.root / SOURCE, {"synthetic": bool})["synthetic"],
        backbone_weights_sha256=sha256(weights) if weights and weights.is_file() else None,
        data={"labels": sha256(job.labels), "split": sha256(job.split)} | data,
        params=chosen,
        terms=terms_of(params.model.encoder.name),
        keras=keras.__version__,
    )


def fingerprint(card: Card, code: str) -> str:
    """Name a training: equal for equal parameters, data, code (a digest of it) and libraries."""
    content: dict[str, Any] = card.model_dump(mode="json") | libraries() | {"code": code}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
