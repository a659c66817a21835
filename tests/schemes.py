"""The label scheme of BreakHis for tests, read from its preset, and parameters that use it."""

from typing import Any

import yaml

from biopsy.core.labels import Labels
from biopsy.core.params import Params, parse_params
from biopsy.tables.labels.scheme import LabelScheme
from scratch import ROOT

LABELS = yaml.safe_load((ROOT / "conf/labels/breakhis.yaml").read_text())
TASKS = ["binary", "multiclass"]
BREAKHIS = LabelScheme.of(Labels.model_validate(LABELS))


def params(**changes: Any) -> Params:
    """The defaults of the sections, with BreakHis's labels."""
    return parse_params({"labels": LABELS, "tasks": TASKS, **changes})


def scheme(**tasks: Any) -> LabelScheme:
    """A scheme of the given tasks, such as `tissue={"column": "t", "classes": ["a", "b"]}`."""
    return LabelScheme.of(Labels.model_validate({"name": "test", "tasks": tasks}))
