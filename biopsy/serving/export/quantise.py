"""An exported network in 8-bit integers: a quarter of the size, and its validation figures beside those of floats."""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import SourceError, reason_of
from biopsy.core.extras import extra
from biopsy.evaluation.figures import short_figures
from biopsy.evaluation.outcome import make_outcome
from biopsy.networks.model_file import Card
from biopsy.serving.onnx_file import FEATURES, INPUT, OUTPUT, Network
from biopsy.serving.similar import chunks, learnt_images

CALIBRATED, JUDGED = 64, 200  # training images that set the ranges, validation images that judge
KINDS = {"Conv", "MatMul", "Gemm"}
FIGURES = ("macro_f1", "roc_auc")


def quantise(content: bytes, card: Card, folder: Path, largest_loss: float) -> tuple[bytes, dict[str, Any], float]:
    """Quantise a network up to its features: per channel, QDQ, ranges from training images; its head stays as it is.

    Parameters
    ----------
    content
        What `convert` made.
    card, folder
        Of the model, in its project: see `learnt_images`.
    largest_loss
        Of macro-F1 or ROC-AUC on validation images, 0 to 1.

    Returns
    -------
    network : bytes
    about : dict
        What JSON can hold: bytes of both, validation figures of both, largest difference of a probability.
    speed
        How many times as fast as floats; not in `about`, for it differs from run to run.

    Raises
    ------
    SourceError
        The images are not here, ONNX Runtime cannot quantise the network, or it loses more than `largest_loss`.
    """
    if (parts := learnt_images(card, folder, CALIBRATED, JUDGED)) is None or not len(parts[1]):
        raise SourceError(
            f"--int8 needs the training and validation images of {folder}, and they are not here. Run `dvc repro` or "
            "`dvc pull data/resized` first."
        )
    train, val = parts
    small = quantised(content, chunks(list(train["file"]), card), card)
    path, truth = Path(folder.name), val["target"].to_numpy()
    given, seconds = zip(*(_asked(Network(path, c, {}, card), val, card) for c in (content, small)), strict=True)
    figures = [short_figures(make_outcome(truth, p, card.classes, card.threshold)) for p in given]
    for key in FIGURES:
        before, after = (found[key] for found in figures)
        if before is not None and after is not None and before - after > largest_loss:
            raise SourceError(
                f"as int8, {folder} has a {key} of {after:.3f} on validation images, {before - after:.3f} less "
                f"than with floats; {largest_loss:g} is allowed, so it was not exported."
            )
    about = {
        "bytes": len(small),
        "bytes_of_floats": len(content),
        "validation_images": len(val),
        "figures": figures[1],
        "figures_of_floats": figures[0],
        "probabilities_differ_by_at_most": float(np.ceil(1000 * np.abs(given[0] - given[1]).max()) / 1000),
    }
    return small, about, seconds[0] / seconds[1]


def _asked(network: Network, rows: Any, card: Card) -> tuple[NDArray[np.float64], float]:
    """Return probabilities (n, classes), and the seconds that they took."""
    given, seconds = [], 0.0
    for images in chunks(list(rows["file"]), card):
        begun = time.perf_counter()
        given.append(network(images))
        seconds += time.perf_counter() - begun
    return np.concatenate(given), seconds


def quantised(content: bytes, images: Iterator[NDArray[np.uint8]], card: Card) -> bytes:
    """Quantise a network; `images` are arrays (n, views, size, size, 3) uint8 that show the ranges of its activations.

    Raises
    ------
    SourceError
        ONNX Runtime cannot quantise it.
    """
    import biopsy.networks.onnx_session  # noqa: F401  (keeps ONNX Runtime from reporting to its maker)

    with extra("pipeline"):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    singly = (part[i : i + 1] for part in images for i in range(len(part)))  # it keeps all activations of a batch

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            found = next(singly, None)
            return None if found is None else {INPUT: found[:, 0] if card.preparation.views == 1 else found}

    model = onnx.load_from_string(content)
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, "int8.onnx")
        logging.disable(logging.WARNING)  # it advises a pre-processing that would rename the nodes
        try:
            quantize_static(
                model, made, Reader(), per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8,  # signed weights overflow without VNNI
                nodes_to_quantize=_before_head(model.graph), op_types_to_quantize=sorted(KINDS),
            )  # fmt: skip
        except Exception as error:  # whatever it meets in an operator
            raise SourceError(f"ONNX Runtime cannot quantise this network: {reason_of(error)}") from None
        finally:
            logging.disable(logging.NOTSET)
        small = onnx.load(made)
    small.producer_name, small.producer_version = model.producer_name, ""
    small.doc_string = model.doc_string
    del small.metadata_props[:]
    return bytes(small.SerializeToString(deterministic=True))


def _before_head(graph: Any) -> list[str]:
    """Name the nodes that features depend on: 256 steps would be too few for probabilities."""
    names = {output.name for output in graph.output}
    needed, found = {FEATURES if FEATURES in names else OUTPUT}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            found += [node.name] if node.op_type in KINDS else []
    return found
