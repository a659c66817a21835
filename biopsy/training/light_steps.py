"""Light steps: what calls and threads cost beside them, and how it is saved. It changes results by rounding at most."""

import os
from typing import Any

from biopsy.core.params import Params
from biopsy.core.sections.train import Train
from biopsy.networks.backbones.registry import Backbone
from biopsy.training.memory import step_bytes
from biopsy.training.tensors.engine import ON_TENSORFLOW

LIGHT = 32e6  # bytes of a step that takes a few milliseconds: of the sample's network, or of a head on stored features


def choose_threads(backbone: Backbone, params: Params) -> None:
    """Let TensorFlow compute a light step in two threads, unless the user chose a number; call it before any operation.

    Sums depend on the number of threads; with two, weights do not depend on the number of cores. One would be a quarter
    faster, but the sample's figures then differ by 0.04 between processors, and with two by 0.02.
    """
    if params.train.batch * params.resize.size**2 <= backbone.few_pixels:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")


def steps_at_once(model: Any, train: Train, batch: int, steps: int) -> int:
    """Choose how many steps TensorFlow takes in a row: of light ones the largest divisor of `steps` that is at most 16.

    Coming back to Python takes as long as a light step; after many heavy ones Ctrl-C would have to wait.
    """
    light = step_bytes(model, batch) < LIGHT and train.accumulate == 1 and train.devices == "one" and ON_TENSORFLOW
    return max(k for k in range(1, 17) if steps % k == 0) if light else 1
