"""Features of images as they are, each computed once: what tasks, protocols, folds and seeds share.

They lie beside those of `features.py`, in `$BIOPSY_CACHE/features/<hash of all but the pixels>/`, one file for each
time that some were missing. A row is found by the hash of its image's pixels, so a new split asks the backbone nothing.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from biopsy.core.files import atomic_file
from biopsy.networks.backend import libraries
from biopsy.training.inputs.features import CODE, cache_folder, hash_arrays
from biopsy.training.memory import check_batch, limits_in_words

SQUARES = 48  # that the backbone sees at once: where the images stand in the batch must not depend on the split


def image_features(extractor: Any, images: np.ndarray, title: str) -> np.ndarray:
    """Return the features of images: from the cache, or computed and put there.

    Parameters
    ----------
    extractor
        Keras model, from (n, size, size, 3) or (n, views, size, size, 3) to (n, p).
    images
        uint8, of that shape.
    title
        What the progress bar calls the work.

    Returns
    -------
    numpy.ndarray
        (n, p) float32.

    Raises
    ------
    MachineError
        Some have to be computed, and a batch does not fit into memory.
    """
    folder = cache_folder() / _name(extractor)
    known = _read(folder, extractor.output_shape[1])
    names = [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images]
    missing = {name: row for row, name in enumerate(names) if name not in known}
    if missing:
        found = _compute(extractor, images, list(missing.values()), title)
        _write(folder, list(missing), found)
        known |= zip(missing, found, strict=True)
    kept = "" if not missing else f", {len(missing)} of them new"
    print(f"{title}: features of {len(names)} images{kept}, kept in {folder}")
    return np.stack([known[name] for name in names])


def _name(extractor: Any) -> str:
    """Hash all that the features of an image depend on beside its pixels."""
    made_by = {"code": CODE, **libraries()}
    recipe = {"extractor": extractor.to_json(), "weights": hash_arrays(extractor.get_weights()), **made_by}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _compute(extractor: Any, images: np.ndarray, rows: list[int], title: str) -> np.ndarray:
    """Run the backbone, in batches of one size: the last one is filled up."""
    batch = max(1, SQUARES // (images.shape[1] if images.ndim == 5 else 1))
    check_batch(extractor, batch)
    found = np.empty((len(rows), extractor.output_shape[1]), np.float32)
    with tqdm(total=len(rows), desc=f"{title}: features", unit="image", delay=2) as bar:
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            filled = images[np.resize(part, batch)].astype(np.float32)
            with limits_in_words(extractor, batch):
                answer = np.asarray(extractor.predict_on_batch(filled), np.float32)
            found[start : start + len(part)] = answer[: len(part)]
            bar.update(len(part))
    return found


def _write(folder: Path, names: list[str], found: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(''.join(sorted(names)).encode()).hexdigest()}.npz"
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, names=np.array(names), features=found)


def _read(folder: Path, width: int) -> dict[str, np.ndarray]:
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
