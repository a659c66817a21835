"""Features of images as they are, each computed once and kept in the store of `biopsy.networks.feature_store`."""

from typing import Any

import numpy as np
from tqdm import tqdm

from biopsy.networks.feature_store import hash_images, read_features, store_folder, write_features
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
    folder, names = store_folder(extractor), hash_images(images)
    known = read_features(folder, extractor.output_shape[1])
    missing = {name: row for row, name in enumerate(names) if name not in known}
    if missing:
        found = _compute(extractor, images, list(missing.values()), title)
        write_features(folder, list(missing), found)
        known |= zip(missing, found, strict=True)
    kept = "" if not missing else f", {len(missing)} of them new"
    print(f"{title}: features of {len(names)} images{kept}, kept in {folder}")
    return np.stack([known[name] for name in names])


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
