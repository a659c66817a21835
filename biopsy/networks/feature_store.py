"""Features of images as a frozen backbone gives them: what tasks, protocols, folds, seeds and evaluations share.

They lie beside those of `training/inputs/features.py`, in `$BIOPSY_CACHE/features/<hash of all but the pixels>/`, one
file for each time that some were missing. A row is found by the hash of its image's pixels, so a new split asks the
backbone nothing.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.code_digest import code_digest
from biopsy.core.files import atomic_file
from biopsy.core.layout import cache
from biopsy.networks.backend import libraries
from biopsy.networks.features import split_model

# The way from pixels to features.
MODULES = (
    "biopsy.networks.backbones",
    "biopsy.networks.encoder_file",
    "biopsy.networks.features",
    "biopsy.networks.feature_store",
    "biopsy.training.inputs.image_features",
)


def cache_folder() -> Path:
    """Return where features are kept: `$BIOPSY_CACHE/features`, else below the user's cache folder."""
    return cache("features")


def store_folder(extractor: Any) -> Path:
    """Return the folder of an extractor: its name is a hash of all that features depend on beside the pixels."""
    made_by = {"code": _code(), **libraries()}
    recipe = {"extractor": extractor.to_json(), "weights": hash_arrays(extractor.get_weights()), **made_by}
    return cache_folder() / hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def hash_images(images: Iterable[np.ndarray]) -> list[str]:
    """Name images, uint8 (size, size, 3) or (views, size, size, 3), as a store does."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images]


def read_features(folder: Path, width: int) -> dict[str, np.ndarray]:
    """Read what is kept by the hash of its image; a broken file is passed over, so that its images are made again."""
    known: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as kept:
                names, found = kept["names"], kept["features"]
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
            continue
        if found.shape == (len(names), width) and found.dtype == np.float32:
            known |= zip(names.tolist(), found, strict=True)
    return known


def write_features(folder: Path, names: list[str], found: np.ndarray) -> None:
    """Keep features, (n, p) float32, below the names that `hash_images` gave their images."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(''.join(sorted(names)).encode()).hexdigest()}.npz"
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, names=np.array(names), features=found)


class StoredModel:
    """Answers in the place of a Keras model with a frozen backbone: looks features up before it computes them.

    Attributes
    ----------
    inputs
        Those of the model.
    """

    def __init__(self, model: Any, head: bool = True) -> None:
        """Read what is kept. `head`: answer with probabilities, else with features, (n, p) float32."""
        self.inputs = model.inputs
        self._extractor, last = split_model(model)
        self._head = last if head else None
        self._known = read_features(store_folder(self._extractor), self._extractor.output_shape[1])

    def predict_on_batch(self, asked: Any) -> np.ndarray:
        """Answer as the model does; pixels float32, whole numbers from 0 to 255, maybe in a dict beside `extra`."""
        pixels, extra = (asked["pixels"], asked["extra"]) if isinstance(asked, dict) else (asked, None)
        names, known = hash_images(pixels.astype(np.uint8)), self._known
        if missing := [row for row, name in enumerate(names) if name not in known]:
            new = np.asarray(self._extractor.predict_on_batch(pixels[missing]), np.float32)
            known = known | dict(zip([names[row] for row in missing], new, strict=True))
        features = np.stack([known[name] for name in names])
        if self._head is None:
            return features
        return np.asarray(self._head.predict_on_batch(features if extra is None else [features, extra]))


def hash_arrays(arrays: list[np.ndarray]) -> str:
    """Hash the values, shapes and types of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


@once
def _code() -> str:
    return code_digest(*MODULES)
