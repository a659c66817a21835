"""An encoder as an ONNX file: whether it is one, what it takes, and its vectors; without Keras."""

import os
import re
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import MachineError
from biopsy.networks.onnx_session import open_session

UINT8, FLOAT = "tensor(uint8)", "tensor(float)"
NAME = "biopsy_encoder"  # the key of a file's metadata that says which of `core.encoders` it is
APART = 0.05  # how far a vector may move when another image stands beside it, as a share of the largest number


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
        try:
            self._session = open_session(content)
        except MachineError:
            raise
        except Exception as error:  # ONNX Runtime's own classes, one a kind of fault
            if os.devnull in str(error):
                raise ValueError(
                    "keeps its weights in another file. Join them: "
                    "`python -c \"import onnx; onnx.save(onnx.load('FILE.onnx'), 'WHOLE.onnx')\"`"
                ) from None
            raise ValueError(f"is not an ONNX file that ONNX Runtime can load: {runtime_reason(error)}") from None
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
        """Encode a black, a white and a random image; return their vectors' length. Raises `ValueError` as above."""
        shape = (2, 3, size, size) if self.channels_first else (2, size, size, 3)
        images = np.zeros(shape, np.uint8 if self.takes_uint8 else np.float32)
        images[1] = 255 if self.takes_uint8 else 1
        random = np.random.default_rng(0).random((1, *shape[1:])) * images.max()
        try:
            both, alone, like = self(images), self(images[:1]), self(random.astype(images.dtype))
        except Exception as error:
            raise ValueError(f"fails on two images of {size}x{size} pixels: {runtime_reason(error)}") from None
        if both.ndim != 2 or len(both) != 2 or not both.size:
            raise ValueError(
                f"makes {_shape(both.shape)} of two images. It must give one vector per image, (n, numbers)"
            )
        if not np.isfinite(like).all():
            raise ValueError("gives NaN or infinite numbers of an image of random pixels. Export it in float32")
        if np.isfinite(both).all() and not np.abs(both[:1] - alone).max() <= APART * np.abs(both).max():
            raise ValueError(
                "gives an image another vector when another image stands beside it, as in training. Export it for "
                "inference (in PyTorch after `module.eval()`)"
            )
        return both.shape[1]


def runtime_reason(error: Exception) -> str:
    """Return ONNX Runtime's message without its codes, the place in its source, and the full stop."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) )?", "", " ".join(str(error).split()))
    if opset := re.search(r"Opset (\d+) is under development.* till opset (\d+)", text):
        return f"it is of opset {opset[1]}, and this ONNX Runtime knows at most {opset[2]}. Export it with an older one"
    return (textwrap.shorten(text, 200, placeholder=" ...") or type(error).__name__).removesuffix(".")


def _names(values: Any) -> str:
    return ", ".join(value.name for value in values)


def _shape(sides: Any) -> str:
    return f"({', '.join(str('?' if side is None else side) for side in sides)})"
