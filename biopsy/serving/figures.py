"""The test figures of a model: those that its .onnx file holds, or those that its project knows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biopsy.core.errors import BiopsyError, warn
from biopsy.serving.model import Model

FiguresOf = Callable[[Path], dict[str, Any] | None]  # finds the test figures of a model's folder; None: not known


def figures_of_test(model: Model, figures_of: FiguresOf | None) -> dict[str, Any] | None:
    """Return a model's test figures, as `model_info.figures_of` gives them; None: not known."""
    if "figures" in model.facts:
        found: dict[str, Any] | None = json.loads(model.facts["figures"])
        return found
    if model.network is None or figures_of is None:
        return None
    try:
        return figures_of(model.path)
    except BiopsyError as error:  # a damaged dvc.lock, say: no reason not to predict
        warn(f"the figures of {model.path} are not known: {error}")
        return None
