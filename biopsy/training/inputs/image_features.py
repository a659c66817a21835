"""Features of images as they are, each computed once and kept in the store of `biopsy.networks.feature_store`."""

from typing import Any

import numpy as np
from tqdm import tqdm

from biopsy.networks.feature_store import FeatureStore, hash_images
from biopsy.training.inputs.loader import ImageStore
from biopsy.training.memory import check_batch, limits_in_words


def image_features(extractor: Any, images: ImageStore, title: str) -> np.ndarray:
    """Return the features of images: from the store, or computed and put there.

    Parameters
    ----------
    extractor
        Keras model, from (n, size, size, 3) or (n, views, size, size, 3) to (n, p).
    images
        Of that shape.
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
    store, names = FeatureStore(extractor), hash_images(images[row] for row in range(len(images)))
    found = np.empty((len(names), extractor.output_shape[1]), np.float32)
    missing: dict[bytes, list[int]] = {}
    for row, name in enumerate(names):
        known = store.get(name)
        if known is None:
            missing.setdefault(name, []).append(row)
        else:
            found[row] = known
    said, kept = "", True
    if missing:
        rows = [same[0] for same in missing.values()]
        new = _compute(extractor, store, images, rows, title)
        said, kept = f", {len(missing)} of them new", store.write(list(missing), new)
        for same, features in zip(missing.values(), new, strict=True):
            found[same] = features
    print(f"{title}: features of {len(names)} images{said}{f', kept in {store.folder}' if kept else ''}")
    return found


def _compute(extractor: Any, store: FeatureStore, images: ImageStore, rows: list[int], title: str) -> np.ndarray:
    """Run the backbone, batch by batch."""
    check_batch(extractor, store.batch)
    parts = []
    with tqdm(total=len(rows), desc=f"{title}: features", unit="image", delay=2) as bar:
        for start in range(0, len(rows), store.batch):
            part = rows[start : start + store.batch]
            with limits_in_words(extractor, store.batch):
                parts.append(store.compute(images[part]))
            bar.update(len(part))
    return np.concatenate(parts)
