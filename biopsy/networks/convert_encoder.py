"""Encoders of timm, or of any PyTorch module, become ONNX files that `model.backbone: onnx` reads.

What a file does is all inside: it takes images as they are, normalises them, and gives one vector each.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from biopsy.core.encoders import ENCODERS, terms_of
from biopsy.core.errors import ParamsError, SourceError, nearest, some
from biopsy.core.extras import extra
from biopsy.core.files import atomic_file, sha256
from biopsy.networks.checkpoint import read_checkpoint
from biopsy.networks.encoder_file import NAME, EncoderFile

OPSET = 17
LARGEST = 2**31 - 2**24  # bytes of one ONNX file, less what is not weights
SMALL = 4096  # bytes of a tensor that need not be halved
CLOSE, CLOSE_HALF = 1e-4, 1e-2  # how far a vector may be from PyTorch's, as a share of the largest number
HUB = "hf-hub:"


@dataclass(frozen=True)
class Recipe:
    """What timm must be told of an encoder of pathology, as its authors' pages say.

    Attributes
    ----------
    options
        For `timm.create_model`; of a text after `=`, the object that it names.
    patches
        Whether the vector is the class token followed by the mean of the patches; else the class token alone.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    patches: bool = False


SWIGLU = {"mlp_layer": "=timm.layers.SwiGLUPacked", "act_layer": "=torch.nn.SiLU"}
UNI2 = {"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2,
        "no_embed_class": True, "reg_tokens": 8, "init_values": 1e-5, **SWIGLU}  # fmt: skip
RECIPES = {
    "uni": Recipe({"init_values": 1e-5}),
    "uni2-h": Recipe(UNI2),
    "virchow": Recipe(SWIGLU, patches=True),
    "virchow2": Recipe(SWIGLU, patches=True),
    "h-optimus-0": Recipe({"init_values": 1e-5}),
    "h-optimus-1": Recipe({"init_values": 1e-5}),
    "h0-mini": Recipe(SWIGLU),
}


def convert_encoder(name: str, out: Path, weights: Path | None = None, size: int | None = None) -> str:
    """Write an encoder of timm as an ONNX file.

    Parameters
    ----------
    name
        As timm calls it, such as `efficientnet_lite0` or `hf-hub:<organisation>/<repository>`, or a key of `RECIPES`.
    out
        Where to write; ends in `.onnx`.
    weights
        A checkpoint as `read_checkpoint` reads it, or a folder like the encoder's repository on the hub (`config.json`
        and its weights); None: timm downloads it, from the hub with `HF_TOKEN`.
    size
        The side of the images in pixels; None: that of its training.

    Returns
    -------
    str
        What was written, its terms, and the parameters that use the file.

    Raises
    ------
    ParamsError, SourceError
        Unknown name or ending; weights that cannot be had or are of another network; a network that ONNX cannot hold.
    MachineError
        The extra `timm` is not installed.
    """
    with extra("timm"):
        import timm
        import torch  # noqa: F401

    sources = {f"{HUB}{ENCODERS[key].source}".lower(): key for key in RECIPES}
    known = name if name in RECIPES else sources.get(name.lower())
    called = f"{HUB}{ENCODERS[known].source}" if known else name
    if weights and weights.is_dir():
        called, weights = f"local-dir:{weights}", None
    if ":" not in called and called.split(".")[0] not in (there := timm.list_models()):
        raise ParamsError(
            f"timm has no model '{name}', and it is none of {', '.join(RECIPES)}.{nearest(name, [*there, *RECIPES])}"
        )
    recipe = RECIPES.get(known or "", Recipe())
    options = {key: _object(value) for key, value in recipe.options.items()}
    try:
        module = timm.create_model(called, pretrained=weights is None, num_classes=0, **options)
    except Exception as error:  # of the network, of the hub, of timm's options
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(
            f"timm cannot make {called} ({reason}). Where its terms must be accepted, accept them on its page and set "
            "HF_TOKEN; or download its repository and name the folder with --weights."
        ) from None
    if weights:
        _fill(module, weights, name)
    about = timm.data.resolve_model_data_config(module)
    size = size or int(about["input_size"][-1])
    said = write_encoder(module, out, size, (about["mean"], about["std"]), known, recipe.patches)
    licence = (module.pretrained_cfg or {}).get("license")
    terms = terms_of(known) or f"Licence of the weights, as timm knows it: {licence or 'not known; read their page'}."
    named = f" -S model.encoder.name={known}" if known else ""
    return f"{said}\n{terms}\nUse it: -S model=onnx -S model.weights={out} -S resize.size={size}{named}"


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
        Of tokens: see `Recipe`.

    Returns
    -------
    str
        What was written, how close it is, and its hash.

    Raises
    ------
    ParamsError, SourceError
        Another ending; a module that ONNX cannot hold, or that gives other vectors there.
    """
    if out.suffix.lower() != ".onnx":
        raise ParamsError(f"The output must end in .onnx. Got {out}.")
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
        reason = " ".join(str(error).split())[:200] or type(error).__name__
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
    """Put what happens to images before a module, and what becomes one vector after it."""
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
    """Keep the weights of an ONNX graph as 16-bit floats, of which it makes those of 32 that it computes with."""
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


def _object(value: Any) -> Any:
    """Find what a text after `=` names."""
    if not (isinstance(value, str) and value.startswith("=")):
        return value
    module, _, name = value[1:].rpartition(".")
    return getattr(import_module(module), name)


def _fill(module: Any, path: Path, name: str) -> None:
    """Load a checkpoint. Raises `SourceError` where it is of another network."""
    import torch

    arrays = read_checkpoint(path)
    needed = module.state_dict()
    lacking = [
        key
        for key, value in needed.items()
        if value.ndim and getattr(arrays.get(key), "shape", None) != tuple(value.shape)
    ]
    if lacking:
        raise SourceError(
            f"{path} is not of {name}: {len(lacking)} of its {len(needed)} tensors are missing or of another shape "
            f"({some(lacking, 3)})."
        )
    module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items() if k in needed}, strict=False)
