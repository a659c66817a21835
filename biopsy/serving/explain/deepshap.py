"""DeepSHAP (Chen et al., 2019, arXiv 1911.11888) of a model's folder: what each place adds, against training images.

The values add up to the answer less the mean answer about the background; whether they do is measured each time.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import MachineError, ParamsError
from biopsy.core.extras import extra
from biopsy.networks.backend import keras
from biopsy.networks.model_file import Card
from biopsy.serving.explain.gradcam import output_of
from biopsy.serving.similar import chunks, learnt_images

BACKGROUND = 4  # training images, evenly spaced: time and memory grow with their number
ADDS_UP = 0.001  # of a probability: what a sum may miss
EXPLAINERS: dict[str, dict[str, Any]] = {  # the second is an estimate, for networks that the first cannot follow
    "DeepExplainer": {"check_additivity": False},
    "GradientExplainer": {"nsamples": 50, "rseed": 0},
}


@dataclass(frozen=True)
class Shap:
    """What each pixel adds to the network's probability of a class.

    Attributes
    ----------
    values : float64 array of shape (views, size, size)
        Summed over the colours.
    missing
        The answer less the mean answer about the background, less the sum of the values.
    words
        The explainer, its background, and whether the values add up.
    """

    values: NDArray[np.float64]
    missing: float
    words: str


def background_of(card: Card, folder: Path) -> NDArray[np.uint8]:
    """Read training images of a model as it sees them, (n, views, size, size, 3).

    Raises
    ------
    ParamsError
        The project's tables or prepared images are not the model's.
    """
    if (parts := learnt_images(card, folder, BACKGROUND, 0)) is None:
        raise ParamsError(
            f"DeepSHAP compares with training images, and those of {folder} are not here. Run `dvc pull` or "
            "`dvc repro` in its project, or use the method 'gradcam'."
        )
    return np.concatenate(list(chunks(list(parts[0]["file"]), card)))


def deepshap(network: Any, views: NDArray[np.uint8], index: int, background: NDArray[np.uint8]) -> Shap:
    """Say what each pixel of an image adds to the probability of a class.

    Parameters
    ----------
    network
        A Keras model on TensorFlow.
    views
        (views, size, size, 3), as `prepare` gives them.
    index
        Of the class; what the one output of two classes gains, the first class loses.
    background
        From `background_of`.

    Raises
    ------
    MachineError
        The extra `shap` is not installed, or Keras runs on another engine than TensorFlow.
    ParamsError
        No explainer can follow the network.
    """
    if keras.backend.backend() != "tensorflow":
        raise MachineError("DeepSHAP needs Keras on TensorFlow. Unset KERAS_BACKEND, or use the method 'gradcam'.")
    with extra("shap"):
        import shap
    asked, known = views.astype(np.float32), background.astype(np.float32)
    if len(network.inputs[0].shape) == 5:
        asked = asked[None]
    else:  # each view is a question of its own; the background is one view of each image, in turn
        known = known[np.arange(len(known)), np.arange(len(known)) % known.shape[1]]
    sign, column = output_of(network, index)
    given, usual = (np.asarray(network.predict_on_batch(x), float)[:, column] for x in (asked, known))
    wanted, reason = sign * float(given.mean() - usual.mean()), ""
    for name, options in EXPLAINERS.items():
        try:
            with _restored():
                found = np.asarray(getattr(shap, name)(network, known).shap_values(asked, **options), float)
        except Exception as error:  # SHAP raises what it likes where it does not know an operation
            reason = " ".join(str(error).split())[-200:]
            continue
        one = found[..., column].sum(-1).reshape(views.shape[:3])
        values = sign * one / len(asked)  # the answer is the views' mean
        missing = wanted - float(values.sum())
        exact = abs(missing) <= ADDS_UP
        if exact or name == list(EXPLAINERS)[-1]:
            how = "adds up" if exact else "does not add up"
            words = f"{name} against {len(known)} training images {how}: {missing:+.1g} of {wanted:+.2g} is missing."
            return Shap(values, missing, words)
    raise ParamsError(f"SHAP cannot follow this network ({reason}). Use the method 'occlusion'.")


@contextmanager
def _restored() -> Iterator[None]:
    """Undo what a failed SHAP leaves behind, after which no gradient would work in this process.

    Also teach it two operations of MobileNetV2 that it lacks: a nonlinearity and a sum.
    """
    execute: Any = import_module("tensorflow.python.eager.execute")
    deep = import_module("shap.explainers._deep.deep_tf")
    deep.op_handlers.setdefault("Relu6", deep.nonlinearity_1d(0))
    deep.op_handlers.setdefault("DepthwiseConv2dNative", deep.linearity_1d(0))
    usual = execute.record_gradient
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it hands over inputs as lists, and every call warns of it
            yield
    finally:
        execute.record_gradient = usual
