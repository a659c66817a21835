"""Read the arrays of a PyTorch or safetensors checkpoint; a pickle that would run code is rejected."""

import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.errors import MachineError, SourceError


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint.

    Parameters
    ----------
    path
        `.safetensors`, or what `torch.save` writes.

    Returns
    -------
    dict
        Arrays by name, floats as float32; a tensor within nested dictionaries is named by all keys, joined by dots.

    Raises
    ------
    SourceError
        No such file, not a checkpoint, broken, with values that are not finite, or a pickle that would execute code.
    MachineError
        The library that reads it is not installed.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist.")
    arrays = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    if not arrays:
        raise SourceError(f"{path} has no tensors. Save a state dict: torch.save(model.state_dict(), path).")
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise SourceError(f"{path}: {name} holds values that are not finite. Take another checkpoint.")
    return arrays


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise MachineError(f"Reading {path} needs safetensors. Run `pip install safetensors`.") from None
    try:
        arrays = load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not a safetensors file that can be read: {_line(error)}.") from None
    return {name: _plain(value) for name, value in arrays.items()}


def _torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise MachineError(
            f"Reading {path} needs PyTorch. Run `pip install torch`, or save the state dict as .safetensors."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own message advises to switch the guard off.
        called = re.search(r"GLOBAL (\S+)", str(error))
        what = f"a call of {called[1]}" if called else "instructions"
        raise SourceError(
            f"{path} is rejected: it holds {what} besides its tensors, which would be executed on reading. Ask its "
            "author for a .safetensors file or a plain state dict."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise SourceError(f"{path} is not a PyTorch checkpoint, or is damaged ({_line(error)}).") from None
    return {
        name: _plain(value.detach().to(torch.float32).numpy() if value.is_floating_point() else value.numpy())
        for name, value in _leaves(content, "")
        if isinstance(value, torch.Tensor)
    }


def _leaves(content: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Walk nested dictionaries."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, content


def _plain(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def _line(error: Exception) -> str:
    """The first sentence of an error."""
    return " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
