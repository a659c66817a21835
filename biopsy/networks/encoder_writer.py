"""Write a PyTorch module as an ONNX file that `model.backbone: onnx` reads.

The file contains everything: it takes images as they are, normalises them, and gives one vector each.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from biopsy.core.errors import ParamsError, SourceError, reason_of
from biopsy.core.extras import extra
from biopsy.core.files import atomic_file, sha256
from biopsy.networks.encoder_file import NAME, EncoderFile

OPSET = 17
LARGEST = 2**31 - 2**24  # bytes of one ONNX file, less what is not weights
SMALL = 4096  # bytes of a tensor that is not halved
CLOSE, CLOSE_HALF = 1e-4, 1e-2  # how far a vector may be from PyTorch's, as a share of the largest number


def check_ending(out: Path) -> None:
    """Raise `ParamsError` unless a file ends in .onnx."""
    if out.suffix.lower() != ".onnx":
        raise ParamsError(f"The output must end in .onnx. Got {out}.")


def write_encoder(
    module: Any,
    out: Path,
    size: int,
    normalisation: tuple[Sequence[float], Sequence[float]],
    name: str | None = None,
    patches: bool = False,
) -> str:
    """Write a PyTorch module as an ONNX file, and check that it gives the same vectors.

    Parameters
    ----------
    module
        From images (n, 3, size, size), normalised, to vectors (n, width) or to tokens (n, tokens, width).
    out
        Where to write; ends in `.onnx`.
    size
        Of the images, in pixels.
    normalisation
        Mean and deviation by channel of pixels / 255.
    name
        A key of `ENCODERS`, whose terms the file then carries.
    patches
        Whether the class token and the mean of the patches are the vector; else the class token alone.

    Returns
    -------
    str
        What was written, how close it is, and its hash.

    Raises
    ------
    ParamsError, SourceError
        Another ending; a module that ONNX cannot hold, or that gives other vectors there.
    """
    check_ending(out)
    with extra("timm"):
        import onnx
        import torch

    count = sum(value.numel() for value in module.state_dict().values())
    half = 4 * count > LARGEST
    if 2 * count > LARGEST:
        raise SourceError(f"An ONNX file holds 2 GB, and this encoder has {count:,} weights. Take a smaller one.")
    whole = _whole(module.eval(), normalisation, patches)
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    try:
        with TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, and that a newer exporter exists
            expected, path = whole(images).numpy(), Path(folder, "encoder.onnx")
            torch.onnx.export(
                whole, (images,), str(path), input_names=["images"], output_names=["vector"], opset_version=OPSET,
                dynamic_axes={"images": {0: "n"}, "vector": {0: "n"}}, dynamo=False,
            )  # fmt: skip
            made = onnx.load(path)
    except Exception as error:  # of whatever the module does
        reason = reason_of(error)
        raise SourceError(f"The encoder cannot be written as ONNX for images of {size} pixels ({reason}).") from None
    if half:
        _halve(made.graph)
    if name:
        onnx.helper.set_model_props(made, {NAME: name})
    content = made.SerializeToString(deterministic=True)
    try:
        file = EncoderFile(content)
        width, found = file.width(size), np.concatenate([file(images.numpy()[i : i + 1]) for i in range(len(images))])
    except ValueError as error:
        raise SourceError(f"The encoder cannot be used: it {error}.") from None
    apart = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not apart <= (CLOSE_HALF if half else CLOSE):  # NaN, too
        raise SourceError(f"The encoder gives other vectors as ONNX (by {apart:.1g} of the largest number).")
    with atomic_file(out) as temporary:
        temporary.write_bytes(content)
    kept = "; its weights are kept as 16-bit floats, as an ONNX file holds 2 GB" if half else ""
    return (
        f"{out}: {width} numbers an image of {size}x{size} pixels, within {apart:.0e} of PyTorch's{kept}\n"
        f"SHA-256 {sha256(out)}"
    )


def _whole(module: Any, normalisation: tuple[Sequence[float], Sequence[float]], patches: bool) -> Any:
    """Put the normalisation before a module, and the pooling to one vector after it."""
    import torch

    mean, std = (torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1) for values in normalisation)

    class Whole(torch.nn.Module):
        """From images (n, size, size, 3), uint8, to vectors (n, width)."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: Any) -> Any:
            """Normalise, encode, pool."""
            found = self.module((images.permute(0, 3, 1, 2).float() / 255 - mean) / std)
            if found.ndim == 3:
                start = getattr(self.module, "num_prefix_tokens", 1)
                tokens = [found[:, 0], found[:, start:].mean(1)] if patches else [found[:, 0]]
                found = torch.cat(tokens, dim=1)
            return found

    return Whole().eval()


def _halve(graph: Any) -> None:
    """Store the weights of an ONNX graph as 16-bit floats; it casts them to 32 bits to compute."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > SMALL:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_16"))
            casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
