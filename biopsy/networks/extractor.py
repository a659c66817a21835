"""A frozen backbone in ONNX Runtime: on a processor nearly twice as fast as in TensorFlow, with the same features."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError
from biopsy.core.files import atomic_file
from biopsy.networks.backend import has_gpu, keras
from biopsy.networks.onnx_session import open_session
from biopsy.networks.to_onnx import to_onnx

SMALL = 500_000  # weights: with fewer, converting takes longer than it saves
ALIKE = 1e-4  # of the largest feature: how far features of the two engines may differ

Ask = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def engine_of(extractor: Any) -> str:
    """Name what runs an extractor, and its version; features of two engines differ in their last digits."""
    backend = keras.backend.backend()
    small = extractor.count_params() < SMALL
    return backend if small or backend != "tensorflow" or has_gpu() else f"onnxruntime {version('onnxruntime')}"


def asker(extractor: Any, batch: int, kept: Path | None = None) -> Ask:
    """Return the function that computes features, by the engine of `engine_of`.

    Parameters
    ----------
    extractor
        Keras model, from (batch, ..., 3) to (batch, p).
    batch
        How many images it sees at once: fewer are filled up, since features may depend on their number.
    kept
        Where the converted network is, or is put, for the next process.

    Returns
    -------
    callable
        From at most `batch` float32 images to float32 features. Keras's own, if ONNX Runtime cannot run the network, or
        gives other features of a random image.
    """

    def ask(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(extractor.predict_on_batch(images), np.float32)

    quick = _quick(extractor, batch, kept, ask) if engine_of(extractor).startswith("onnxruntime") else None
    engine = quick or ask

    def ask_whole(images: NDArray[np.float32]) -> NDArray[np.float32]:
        n = len(images)
        return engine(images if n == batch else images[np.resize(np.arange(n), batch)])[:n]

    return ask_whole


def _quick(extractor: Any, batch: int, kept: Path | None, ask: Ask) -> Ask | None:
    """Return a session of ONNX Runtime that gives the features of `ask`; None where there is none."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *extractor.input_shape[1:])).astype(np.float32)
    wanted = ask(images[:1])  # of one image, since more take memory that nothing else needs
    sources: list[Callable[[], bytes]] = [kept.read_bytes] if kept else []
    sources.append(partial(_convert, extractor, images.shape, kept))
    for source in sources:
        with suppress(Exception):  # the converter's and the runtime's own, one a kind of layer that they do not know
            quick = _session(source())
            if np.abs(quick(images)[:1] - wanted).max() <= ALIKE * max(1.0, np.abs(wanted).max()):  # False of NaN, too
                return quick
    return None


def _convert(extractor: Any, shape: tuple[int, ...], kept: Path | None) -> bytes:
    from biopsy.networks.backend import tf

    taken = tf.TensorSpec(shape, tf.float32, name="images")
    content = bytes(to_onnx(lambda images: extractor(images, training=False), taken).SerializeToString())
    if kept:
        with suppress(OSError, BiopsyError), atomic_file(kept) as temporary:
            temporary.write_bytes(content)
    return content


def _session(content: bytes) -> Ask:
    session = open_session(content, int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0))  # as TensorFlow
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0], np.float32)
