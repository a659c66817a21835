"""Weights from a hub of models, `hf://<organisation>/<repository>/<file>`, kept under their SHA-256."""

import re
from urllib.parse import quote

from biopsy.core.sections.model import Model
from biopsy.core.sections.section import HUB
from biopsy.sources.web.download import download, hub_address

LARGEST = 16 << 30  # bytes


def fetch_weights(model: Model) -> None:
    """Bring the file that `model.weights` names from the hub, where it does and the file is not here yet.

    `HF_ENDPOINT` names another hub than huggingface.co; `HF_TOKEN` is that of an account that may read the file.

    Raises
    ------
    SourceError
        It cannot be downloaded, or is not the file that `model.weights_sha256` names.
    """
    found, target = re.match(HUB, model.weights), model.weights_file
    if not found or not target or target.is_file():  # its folder is named by its hash, which `check_model` checks
        return
    hint = (
        f"Where its terms must be accepted, accept them at {hub_address()}/{found[1]} and set HF_TOKEN; or download "
        "the file by hand and set model.weights to its path."
    )
    address = f"{hub_address()}/{found[1]}/resolve/main/{quote(found[2])}"
    download(address, target, limit=LARGEST, hint=hint, sha256=model.weights_sha256)
