"""Convert timm's encoders, and pathology encoders that timm finds on the hub, to ONNX files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.encoders import ENCODERS, terms_of
from biopsy.core.errors import ParamsError, SourceError, nearest, reason_of, some
from biopsy.core.extras import extra
from biopsy.networks.checkpoint import read_checkpoint
from biopsy.networks.encoder_writer import check_ending, write_encoder

HUB = "hf-hub:"


@dataclass(frozen=True)
class Recipe:
    """How timm must build a pathology encoder, from its authors' page.

    Attributes
    ----------
    options
        For `timm.create_model`; a text after `=` names an object.
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
    check_ending(out)
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
        reason = reason_of(error)
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
