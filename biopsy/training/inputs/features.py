"""Features of a frozen backbone, computed once and kept, so that its head trains in seconds.

They lie in `$BIOPSY_CACHE/features` (default `~/.cache/biopsy/features`), named by a hash of all that they depend on:
pixels, augmentation, backbone, weights, size, code, libraries. Nothing else reads them; delete them when you like.
"""

import hashlib
import json
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from biopsy.core.code_digest import code_digest
from biopsy.networks.backend import libraries
from biopsy.networks.extractor import asker, engine_of
from biopsy.networks.feature_store import cache_folder, hash_arrays
from biopsy.networks.features import split_model
from biopsy.training.inputs.batches import feature_set, join_extra, plain_features
from biopsy.training.inputs.feed import PixelFeed
from biopsy.training.inputs.loader import encode_targets, epoch_order
from biopsy.training.inputs.mapped import create_array, open_array
from biopsy.training.memory import check_batch, limits_in_words

# The way from pixels to features. The recipe below names augmentations and their strengths; these say what they do.
MODULES = (
    "biopsy.training.augment",
    "biopsy.training.tensors",
    "biopsy.networks.backbones",
    "biopsy.networks.encoder_file",
    "biopsy.networks.extractor",
    "biopsy.networks.features",
    "biopsy.networks.onnx_session",
    "biopsy.networks.to_onnx",
    "biopsy.training.inputs.array_batches",
    "biopsy.training.inputs.tf_batches",
    "biopsy.training.inputs.loader",
    "biopsy.training.inputs.feed",
    "biopsy.training.inputs.features",
)
CODE = code_digest(*MODULES)  # here, and not hours later, when somebody may have edited them


@dataclass(frozen=True)
class FeatureFeed:
    """Stored features instead of images; epoch e takes view e modulo `views`, in the order in which images would come.

    Attributes
    ----------
    features
        (views * n, ...) float32: all training images' first view, then their second, and so on.
    targets
        (n, c), encoded.
    val_features, val_targets
        (n_val, ...) and (n_val, c).
    extra, val_extra
        (n, k) and (n_val, k) float32, the inputs beside the pixels; None without such inputs.
    groups
        As those of `TrainingItems`.
    """

    features: np.ndarray
    targets: np.ndarray
    val_features: np.ndarray
    val_targets: np.ndarray
    views: int
    batch: int
    seed: int
    extra: np.ndarray | None = None
    val_extra: np.ndarray | None = None
    groups: np.ndarray | None = None

    def train(self, epochs: range) -> Any:
        """Return batches of (features, targets), `batches_of(n, batch)` an epoch."""
        n = len(self.targets)
        orders = np.stack([epoch_order(n, self.seed, epoch, self.groups) for epoch in epochs])
        rows = orders + n * (np.array(epochs)[:, None] % self.views)
        batches = feature_set(self.features, self.targets, rows, self.batch)
        if self.extra is None:
            return batches
        return join_extra(batches, self.extra, orders, self.batch, training=True)

    def validation(self) -> Any:
        """Return batches of the validation part."""
        batches = plain_features(self.val_features, self.val_targets, self.batch)
        if self.val_extra is None:
            return batches
        order = np.arange(len(self.val_targets))[None]
        return join_extra(batches, self.val_extra, order, self.batch, training=False)


def head_on_features(model: Any, feed: PixelFeed, views: int, title: str) -> tuple[Any, FeatureFeed]:
    """Replace a frozen backbone by stored features.

    Parameters
    ----------
    model
        As `build_model` makes it, with no trainable weight in its backbone.
    feed
        The images.
    views
        How many augmented versions of each training image are stored. Version v is what the images would look like in
        epoch v, so a training of at most `views` epochs sees what it would see without stored features. Where nothing
        is random one view is stored.
    title
        What progress bars call the work.

    Returns
    -------
    head : keras.Model
        Maps features (and extra inputs) to probabilities; shares its layers with `model`, so training it trains both.
    feed : FeatureFeed

    Raises
    ------
    MachineError
        A batch of the head does not fit into memory, or one of the backbone, if it has to run at all.
    """
    extractor, head = split_model(model)
    check_batch(head, feed.batch)  # before the hours that the backbone may take
    extra, feed = feed.extra, replace(feed, extra=None)  # the backbone sees the pixels alone
    common = {"pixels": feed.store.sha256(), "extractor": extractor.to_json()}
    common["weights"] = hash_arrays(extractor.get_weights())
    augment = feed.params.augment.model_dump(include={"every", "copies"})
    drawn = {
        "items": hash_arrays([feed.items.index, feed.items.copy]),
        "augment": {"every": augment["every"], "copies": augment["copies"].get(feed.task)},
        "seed": feed.params.seed if augment["every"] or feed.items.copy.any() else None,
        "views": views,
    }
    if drawn["seed"] is None:
        drawn["views"] = views = 1  # all views would be the same
    n, n_val = len(feed.items), len(feed.val_targets)
    train = feed.train(range(views), shuffled=False)
    of_val = {**common, "last": n_val}
    features = stored_features(extractor, train, feed.batch, n * views, {**common, **drawn}, f"{title}, training")
    val = stored_features(extractor, feed.validation(), feed.batch, n_val, of_val, f"{title}, validation")
    targets, val_targets = (encode_targets(t, feed.classes) for t in (feed.items.target, feed.val_targets))
    stored = FeatureFeed(features, targets, val, val_targets, views, feed.batch, feed.params.seed)
    stored = replace(stored, groups=feed.items.groups)
    if extra is not None:
        stored = replace(stored, extra=extra[feed.items.index], val_extra=extra[len(extra) - n_val :])
    return head, stored


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
    made_by = {"code": CODE, "engine": engine_of(extractor), **libraries()}
    name = hashlib.sha256(json.dumps({**recipe, **made_by}, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{name}.npy"
    shape = (rows, *extractor.output_shape[1:])
    if path.is_file() and (found := open_array(path, np.float32, shape)) is not None:
        print(f"{title}: {rows} stored features from {path}")
        return found
    check_batch(extractor, batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path.parent)
    temporary = path.with_name(f"{name}.{_host()}.{os.getpid()}.tmp")  # two trainings may make the same file
    try:
        array, ask = create_array(temporary, np.float32, shape), asker(extractor, batch)
        done = 0
        bar = tqdm(total=rows, desc=f"{title}: features", unit="image", delay=2)
        with bar, limits_in_words(extractor, batch):
            for images, _ in batches:
                answer = ask(np.asarray(images))
                array[done : done + len(answer)] = answer
                done += len(answer)
                bar.update(len(answer))
        array.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{title}: features of {rows} images kept in {path}")
    return np.load(path, mmap_mode="r")


def _remove_orphans(folder: Path) -> None:
    """Delete what killed processes of this machine were making; one of another machine cannot be asked for."""
    for path in folder.glob(f"*.{_host()}.*.tmp"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            path.unlink(missing_ok=True)


def _host() -> str:
    """Name this machine, without a dot; the cache may lie on a disk that several share."""
    return platform.node().partition(".")[0] or "local"
