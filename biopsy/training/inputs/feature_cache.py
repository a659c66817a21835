"""Where features of a frozen backbone are kept, once computed.

They lie in `$BIOPSY_CACHE/features` (default `~/.cache/biopsy/features`), named by a hash of all that they depend on:
pixels, augmentation, backbone, weights, size, code, libraries. Nothing else reads them; delete them when you like.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from biopsy.networks.backend import tf
from biopsy.training.inputs.mapped import create_array
from biopsy.training.memory import available_bytes, check_batch, out_of_memory


def cache_folder() -> Path:
    """Return where features are kept: `$BIOPSY_CACHE/features`, else below the user's cache folder."""
    base = os.environ.get("BIOPSY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "biopsy")
    return Path(base).expanduser() / "features"


def stored_features(
    extractor: Any, batches: Any, batch: int, rows: int, recipe: dict[str, Any], title: str
) -> np.ndarray:
    """Return the features of `rows` images: from the cache, or computed and put there.

    Parameters
    ----------
    extractor
        From pixels to features.
    batches
        Of (images, targets), in a fixed order; only read where the features are not in the cache.
    batch, rows
        The number of images in each of `batches`, and in all.
    recipe
        All that the features depend on, as JSON can hold it.
    title
        What the progress bar calls the work.

    Returns
    -------
    numpy.ndarray
        (rows, ...) float32, memory-mapped and read-only.

    Raises
    ------
    MachineError
        They have to be computed, and the batch does not fit into memory.
    """
    path = cache_folder() / f"{_name(recipe)}.npy"
    dtype = np.dtype((np.float32, extractor.output_shape[1:]))
    found = _open(path, dtype)
    if found is not None and len(found) == rows:
        print(f"{title}: {rows} stored features from {path}")
        return found
    return _compute(path, dtype, rows, extractor, (images for images, _ in batches), batch, title)


def image_features(extractor: Any, images: np.ndarray, batch: int, recipe: dict[str, Any], title: str) -> np.ndarray:
    """Return the features of images as they are: each is computed once, whichever folds and seeds ask for it.

    Parameters
    ----------
    extractor
        From pixels to features.
    images
        (n, ...) uint8.
    batch
        So many are computed at once, always: an image's features must not depend on how many are missing beside it.
    recipe
        All that the features depend on but the pixels, as JSON can hold it.
    title
        What the progress bar calls the work.

    Returns
    -------
    numpy.ndarray
        (n, ...) float32; memory-mapped.

    Raises
    ------
    MachineError
        Some have to be computed, and the batch does not fit into memory.
    """
    name, folder = _name({**recipe, "batch": batch}), cache_folder()
    dtype = np.dtype([("image", "S64"), ("features", np.float32, extractor.output_shape[1:])])
    wanted = [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest().encode() for image in images]
    files = [array for path in sorted(folder.glob(f"{name}-*.npy")) if (array := _open(path, dtype)) is not None]
    known = {image: (array, row) for array in files for row, image in enumerate(array["image"].tolist())}
    missing = {image: i for i, image in enumerate(wanted) if image not in known}
    if len(missing) < len(wanted):
        print(f"{title}: {len(wanted) - len(missing)} stored features from {folder}")
    if missing:
        path = folder / f"{name}-{hashlib.sha256(b''.join(missing)).hexdigest()[:32]}.npy"
        rows = np.array(list(missing.values()))
        array = _compute(path, dtype, len(rows), extractor, _full_batches(images, rows, batch), batch, title, missing)
        known |= {image: (array, row) for row, image in enumerate(missing)}
    first, start = known[wanted[0]]
    if all(known[image][0] is first and known[image][1] == start + i for i, image in enumerate(wanted)):
        return np.asarray(first["features"][start : start + len(wanted)])
    temporary = _temporary(folder / f"{name}.npy")
    try:
        gathered = create_array(temporary, np.float32, (len(wanted), *extractor.output_shape[1:]))
    finally:
        temporary.unlink(missing_ok=True)  # what is mapped stays until nobody uses it
    for i, image in enumerate(wanted):
        array, row = known[image]
        gathered[i] = array["features"][row]
    return gathered


def _name(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _full_batches(images: np.ndarray, rows: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Yield the images of `rows`; the last batch is filled up with its last image."""
    for start in range(0, len(rows), batch):
        chosen = rows[start : start + batch]
        yield images[np.pad(chosen, (0, batch - len(chosen)), mode="edge")].astype(np.float32)


def _compute(
    path: Path, dtype: np.dtype, rows: int, extractor: Any, batches: Iterable[Any], batch: int, title: str,
    names: Iterable[bytes] = (),
) -> np.ndarray:  # fmt: skip
    """Compute the features of `rows` images into a file, beside them their names where there are any; map it."""
    check_batch(extractor, batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path.parent)
    temporary = _temporary(path)  # two trainings may make the same file
    try:
        array = create_array(temporary, *((dtype, (rows,)) if dtype.names else (np.float32, (rows, *dtype.shape))))
        features, done = (array["features"] if dtype.names else array), 0
        with tqdm(total=rows, desc=f"{title}: features", unit="image", delay=2) as bar:
            for images in batches:
                answer = np.asarray(extractor.predict_on_batch(images), np.float32)[: rows - done]
                features[done : done + len(answer)] = answer
                done += len(answer)
                bar.update(len(answer))
        if dtype.names:
            array["image"] = list(names)
        array.flush()
        temporary.replace(path)
    except tf.errors.ResourceExhaustedError:
        raise out_of_memory(extractor, batch, available_bytes()) from None
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{title}: features of {rows} images kept in {path}")
    return np.load(path, mmap_mode="r")


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.stem}.{_host()}.{os.getpid()}.tmp")


def _remove_orphans(folder: Path) -> None:
    """Delete what killed processes of this machine were making; one of another machine cannot be asked for."""
    for path in folder.glob(f"*.{_host()}.*.tmp"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            path.unlink(missing_ok=True)


def _host() -> str:
    """Name this machine, without a dot; the cache may lie on a disk that several share."""
    return platform.node().partition(".")[0] or "local"


def _open(path: Path, dtype: np.dtype) -> np.ndarray | None:
    """Map a stored array; None where it is missing, broken or of another shape, so that it is made again."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    same = array.dtype == dtype if dtype.names else (array.dtype, array.shape[1:]) == (np.float32, dtype.shape)
    return array if same else None
