"""`tf` for augmentations: TensorFlow where Keras runs on it, else the same operations in NumPy and OpenCV."""

from typing import TYPE_CHECKING, Any

from biopsy.networks.backend import keras

__all__ = ["ON_TENSORFLOW", "tf"]

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if TYPE_CHECKING:
    tf: Any
elif ON_TENSORFLOW:
    from biopsy.networks.backend import tf
else:
    from biopsy.training.tensors.arrays import tf
