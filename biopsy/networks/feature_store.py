"""Features of images as a frozen backbone gives them: what tasks, protocols, folds, seeds and evaluations share.

They lie beside those of `training/inputs/features.py`, in `$BIOPSY_CACHE/features/<hash of all but the pixels>/`, one
file for each time that some were missing. A row is found by the hash of its image's pixels, so a new split asks the
backbone nothing. Only names are kept in memory: the folder also holds what other data sets have left there.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable
from copy import copy
from functools import cache as once
from pathlib import Path
from typing import Any, Self

import numpy as np

from biopsy.core.code_digest import code_digest
from biopsy.core.errors import BiopsyError, reason_of, warn
from biopsy.core.files import atomic_file
from biopsy.core.layout import cache
from biopsy.networks.answers import images_at_once
from biopsy.networks.backend import libraries
from biopsy.networks.extractor import Ask, asker, engine_of
from biopsy.networks.features import split_model

# The way from pixels to features.
MODULES = (
    "biopsy.networks.answers",
    "biopsy.networks.backbones",
    "biopsy.networks.encoder_file",
    "biopsy.networks.extractor",
    "biopsy.networks.features",
    "biopsy.networks.feature_store",
    "biopsy.networks.onnx_session",
    "biopsy.networks.to_onnx",
    "biopsy.training.inputs.image_features",
)
NAME = 32  # bytes of a name, a SHA-256
KEPT_AT_ONCE = 1024  # images whose features a `StoredModel` holds before it writes them


def cache_folder() -> Path:
    """Return where features are kept: `$BIOPSY_CACHE/features`, else below the user's cache folder."""
    return cache("features")


def hash_images(images: Iterable[np.ndarray]) -> list[bytes]:
    """Name images, uint8 (size, size, 3) or (views, size, size, 3), as a store does."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]


class FeatureStore:
    """What is kept of one extractor, a frozen backbone.

    A file holds n names and then n rows of a checksum and p float32. One that cannot be read, is torn or foreign is
    passed over, and so is a row that is damaged or not finite: the features of these images are computed again.

    Attributes
    ----------
    folder
        Where it lies, named by a hash of all that features depend on beside the pixels.
    batch
        How many images the extractor sees at once: in sums of another order a feature could differ in its last digit.
    """

    def __init__(self, extractor: Any) -> None:
        """Look what is there."""
        made_by = {"code": _code(), "engine": engine_of(extractor), **libraries()}
        recipe = {"extractor": extractor.to_json(), "weights": hash_arrays(extractor.get_weights()), **made_by}
        self.folder = cache_folder() / hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        shape = extractor.input_shape
        self.batch = images_at_once(shape[1] if len(shape) == 5 else 1)
        self._extractor, self._places = extractor, dict[bytes, tuple[Path, int]]()
        self._ask: Ask | None = None
        self._row = np.dtype([("sum", "<u4"), ("features", "<f4", (extractor.output_shape[1],))])
        try:
            for path in sorted(self.folder.glob("*.rows")):
                self._places |= self._names_in(path)
        except OSError:  # no permission for the folder: evaluation does without
            return

    def _names_in(self, path: Path) -> dict[bytes, tuple[Path, int]]:
        """Return where the row of each name lies in a file; nothing where its size is not that of whole rows."""
        try:
            n, rest = divmod(path.stat().st_size, NAME + self._row.itemsize)
            if rest or not path.is_file():
                return {}
            names = np.fromfile(path, f"V{NAME}", n).tolist()
        except OSError:
            return {}
        return {name: (path, NAME * n + self._row.itemsize * row) for row, name in enumerate(names)}

    def get(self, name: bytes) -> np.ndarray | None:
        """Return the features of an image, (p,) float32; None where they are not there, or no good."""
        if name not in self._places:
            return None
        path, offset = self._places[name]
        try:
            found = np.fromfile(path, self._row, 1, offset=offset)
        except OSError:
            return None
        if len(found) == 0 or zlib.crc32(found["features"][0]) != found["sum"][0]:
            return None
        features: np.ndarray = found["features"][0]
        return features if np.isfinite(features).all() else None

    def compute(self, images: np.ndarray) -> np.ndarray:
        """Ask the extractor about at most `batch` images; their batch is filled up, so that all have one size."""
        self._ask = self._ask or asker(self._extractor, self.batch, self.folder / "extractor.onnx")
        return self._ask(images.astype(np.float32))

    def write(self, names: list[bytes], found: np.ndarray) -> bool:
        """Keep features, (n, p), by the names of their images; say whether that was possible, and warn where not."""
        rows = np.empty(len(names), self._row)
        rows["features"] = found
        rows["sum"] = [zlib.crc32(row) for row in rows["features"]]
        path = self.folder / f"{hashlib.sha256(b''.join(sorted(names))).hexdigest()}.rows"
        try:
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                stream.write(b"".join(names))
                stream.write(rows.data)
            self._places |= self._names_in(path)
        except (OSError, BiopsyError) as error:
            why = (isinstance(error, OSError) and error.strerror) or reason_of(error)
            warn(
                f"features of {len(names)} images cannot be kept in {self.folder} ({why.rstrip('.')}). Next time they "
                "are computed again. To keep them, set BIOPSY_CACHE to a folder to write in, on a disk with room."
            )
            return False
        return True


class StoredModel:
    """Answers in the place of a Keras model with a frozen backbone: looks features up before it computes them.

    What it computes is kept, at the latest by `keep`, for the next task with these images.

    Attributes
    ----------
    inputs
        Those of the model.
    """

    def __init__(self, model: Any) -> None:
        """Look what is kept."""
        self.inputs = model.inputs
        extractor, self._head = split_model(model)
        self._store, self._new, self._writes = FeatureStore(extractor), dict[bytes, np.ndarray](), True

    def keep(self) -> None:
        """Write the features that were computed since, unless that has failed before."""
        if self._new and self._writes:
            self._writes = self._store.write(list(self._new), np.stack(list(self._new.values())))
        self._new.clear()

    def without_head(self) -> Self:
        """Return what answers with features, (n, p) float32, in the place of probabilities."""
        bare = copy(self)
        bare._head = None
        return bare

    def predict_on_batch(self, asked: Any) -> np.ndarray:
        """Answer as the model does; pixels float32, whole numbers from 0 to 255, maybe in a dict beside `extra`."""
        pixels, extra = (asked["pixels"], asked["extra"]) if isinstance(asked, dict) else (asked, None)
        names = hash_images(pixels.astype(np.uint8))
        found = [self._new[name] if name in self._new else self._store.get(name) for name in names]
        missing = [row for row, features in enumerate(found) if features is None]
        for start in range(0, len(missing), self._store.batch):
            part = missing[start : start + self._store.batch]
            for row, features in zip(part, self._store.compute(pixels[part]), strict=True):
                found[row] = self._new[names[row]] = features
        if len(self._new) >= KEPT_AT_ONCE:
            self.keep()
        features = np.stack([row for row in found if row is not None])
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
