"""An encoder as an ONNX file: whether it is one, what it takes, and its vectors; without Keras."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import reason_of
from biopsy.core.extras import extra

UINT8, FLOAT = "tensor(uint8)", "tensor(float)"
NAME = "biopsy_encoder"  # the key of a file's metadata that says which of `core.encoders` it is


class EncoderFile:
    """An ONNX file in memory.

    Attributes
    ----------
    content
        Its bytes.
    takes_uint8, channels_first
        What images must be: uint8 of 0 to 255 or normalised float32; (n, 3, h, w) or (n, h, w, 3).
    size
        The side that it asks for; None: any.
    name
        Which encoder it says it is; None: it does not say.

    Raises
    ------
    ValueError
        It is not an encoder: the reason, as a clause that follows the file's path.
    MachineError
        ONNX Runtime is not installed.
    """

    def __init__(self, content: bytes) -> None:
        with extra("predict"):
            import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is said in our words
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, one a kind of fault
            raise ValueError(f"is not an ONNX file that ONNX Runtime can load: {_plain(error)}") from None
        self.content, self.name = content, self._session.get_modelmeta().custom_metadata_map.get(NAME)
        given, made = self._session.get_inputs(), self._session.get_outputs()
        if len(given) != 1:
            raise ValueError(f"takes {len(given)} inputs ({_names(given)}), and an encoder takes images alone")
        if len(made) != 1:
            raise ValueError(f"gives {len(made)} outputs ({_names(made)}). Export it with one, a vector an image")
        self._input, kind, shape = given[0].name, given[0].type, given[0].shape
        if kind not in (UINT8, FLOAT) or made[0].type != FLOAT:
            raise ValueError(
                f"takes {kind} and gives {made[0].type}. It must take {UINT8} or {FLOAT}, and give {FLOAT}"
            )
        self.takes_uint8, self.channels_first = kind == UINT8, len(shape) == 4 and shape[1] == 3 != shape[3]
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ValueError(f"takes {_shape(shape)}. Images are (n, height, width, 3) or (n, 3, height, width)")
        if isinstance(shape[0], int):
            raise ValueError(f"takes {shape[0]} image(s) at a time. Export it with a free first dimension")
        sides = shape[2:] if self.channels_first else shape[1:3]
        known = {side for side in sides if isinstance(side, int)}
        if len(known) > 1:
            raise ValueError(f"takes {_shape(shape)}, and our images are square")
        self.size = known.pop() if known else None

    def __call__(self, images: NDArray[np.generic]) -> NDArray[np.float32]:
        """Encode images as the file takes them."""
        return np.asarray(self._session.run(None, {self._input: images})[0])

    def width(self, size: int) -> int:
        """Encode two black images, and return the length of their vectors. Raises `ValueError` as above."""
        shape = (2, 3, size, size) if self.channels_first else (2, size, size, 3)
        try:
            found = self(np.zeros(shape, np.uint8 if self.takes_uint8 else np.float32)).shape
        except Exception as error:
            raise ValueError(f"fails on two images of {size}x{size} pixels: {_plain(error)}") from None
        if len(found) != 2 or found[0] != 2:
            raise ValueError(f"makes {_shape(found)} of two images. It must give one vector per image, (n, numbers)")
        return int(found[1])


def _plain(error: Exception) -> str:
    return reason_of(error).removesuffix(".")


def _names(values: Any) -> str:
    return ", ".join(value.name for value in values)


def _shape(sides: Any) -> str:
    return f"({', '.join(str(side or '?') for side in sides)})"
