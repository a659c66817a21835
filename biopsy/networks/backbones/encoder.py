"""Any frozen encoder as an ONNX file, such as a pathology foundation model: from an image to one vector.

ONNX Runtime runs it. Its bytes are stored inside model.keras, so that a trained model needs no other file.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import MachineError, ParamsError, SourceError
from biopsy.core.sections.model import Encoder
from biopsy.networks import backend
from biopsy.networks.backbones.registry import Backbone, register
from biopsy.networks.backend import keras
from biopsy.networks.encoder_file import EncoderFile

ASSET = "encoder.onnx"


@keras.saving.register_keras_serializable("biopsy")
class OnnxEncoder(keras.layers.Layer):
    """The encoder as a layer without weights: pixels (n, s, s, 3), 0 to 255, to a map of one place, (n, 1, 1, width).

    Parameters
    ----------
    sha256
        Of the file, so that hashes of the layer's configuration depend on it.
    width
        The length of its vectors.
    mean, std
        By channel, of pixels / 255: the normalisation of a float input.
    content
        The file; in a loaded model, `load_assets` fills it in.
    """

    def __init__(
        self, sha256: str, width: int, mean: list[float], std: list[float], content: bytes = b"", **kwargs: Any
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.sha256, self.width, self.mean, self.std = sha256, width, tuple(mean), tuple(std)
        self.content, self.supports_jit = content, False  # Keras asks for the latter

    @cached_property
    def network(self) -> EncoderFile:
        """The file, opened when it is first needed."""
        return EncoderFile(self.content)

    @property
    def scale(self) -> NDArray[np.float32]:
        """What pixels, 0 to 255, are multiplied by, (3,)."""
        return np.array([1 / (255 * s) for s in self.std], np.float32)

    @property
    def offset(self) -> NDArray[np.float32]:
        """What is added to them then, (3,)."""
        return np.array([-m / s for m, s in zip(self.mean, self.std, strict=True)], np.float32)

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, s, s, 3) to (n, 1, 1, width)."""
        whole = self.network.takes_uint8
        images = np.rint(pixels).clip(0, 255).astype(np.uint8) if whole else pixels * self.scale + self.offset
        if self.network.channels_first:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return self.network(images).reshape(-1, 1, 1, self.width)

    def call(self, pixels: Any) -> Any:
        """Leave TensorFlow for ONNX Runtime and come back."""
        tf = backend.tf
        return tf.ensure_shape(
            tf.numpy_function(self.encode, [pixels], tf.float32, stateful=False), (None, 1, 1, self.width)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape without running the encoder."""
        return (input_shape[0], 1, 1, self.width)

    def get_config(self) -> dict[str, Any]:
        """Say all but the content."""
        own = {"sha256": self.sha256, "width": self.width, "mean": list(self.mean), "std": list(self.std)}
        return {**super().get_config(), **own}

    def save_assets(self, folder: str) -> None:
        """Put the file into model.keras."""
        Path(folder, ASSET).write_bytes(self.content)

    def load_assets(self, folder: str) -> None:
        """Take the file out of model.keras."""
        self.content = Path(folder, ASSET).read_bytes()


def build(pixels: Any, weights: str | None, encoder: Encoder) -> Any:
    """Put the file that `model.weights` names on the pixels. Raises `SourceError`, `ParamsError`, `MachineError`."""
    if keras.backend.backend() != "tensorflow":
        raise MachineError(f"model.backbone 'onnx' needs Keras on TensorFlow. {backend.ON_TENSORFLOW}")
    content, size = Path(str(weights)).read_bytes(), pixels.shape[1]
    try:
        network = EncoderFile(content)
        if network.size in (None, size):
            width = network.width(size)
    except ValueError as error:
        raise SourceError(f"model.weights: {weights} {error}.") from None
    if network.size not in (None, size):
        raise ParamsError(
            f"model.weights: {weights} takes images of {network.size} pixels, and resize.size is {size}. "
            f"Set resize.size to {network.size}"
        )
    if network.name and network.name != encoder.name:  # its terms hold for the model
        raise ParamsError(
            f"model.weights: {weights} is the encoder {network.name}, and model.encoder.name is "
            f"{encoder.name or 'null'}. Set it to {network.name}"
        )
    mean, std = map(list, encoder.normalisation)
    layer = OnnxEncoder(hashlib.sha256(content).hexdigest(), width, mean, std, content, name="encoder")
    return layer(pixels)


register(
    Backbone(
        "onnx",
        build,
        "An encoder that an ONNX file holds, frozen: `model.weights` is its path.",
        preprocessing="as the ONNX file takes them: uint8, or (pixels / 255 - mean) / std of model.encoder",
        is_file=True,
    )
)
