"""Features of a frozen backbone in the place of images, so that its head trains in seconds."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biopsy.core.code_digest import code_digest
from biopsy.networks.backend import keras, tf
from biopsy.training.inputs.feature_cache import image_features, stored_features
from biopsy.training.inputs.feed import PixelFeed, join_extra
from biopsy.training.inputs.loader import batched, encode_targets, epoch_order
from biopsy.training.memory import check_batch

# The way from pixels to features. The recipe below names augmentations and their strengths; these say what they do.
MODULES = (
    "biopsy.training.augment",
    "biopsy.networks.backbones",
    "biopsy.training.inputs.loader",
    "biopsy.training.inputs.feed",
    "biopsy.training.inputs.features",
    "biopsy.training.inputs.feature_cache",
)
CODE = code_digest(*MODULES)  # here, and not hours later, when somebody may have edited them


@dataclass(frozen=True)
class FeatureFeed:
    """Stored features in the place of images; epoch e takes view e modulo `views`, in the order of the images.

    Attributes
    ----------
    features
        (views * n, ...) float32: all training images' first view, then their second, and so on.
    targets
        (n, c), encoded.
    val_features, val_targets
        (n_val, ...) and (n_val, c).
    extra, val_extra
        (n, k) and (n_val, k) float32, beside the features; None where there are none.
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

    def train(self, epochs: range) -> Any:
        """Return batches of (features, targets), `batches_of(n, batch)` an epoch."""
        n, targets = len(self.targets), tf.constant(self.targets)

        def load(rows: Any) -> Any:
            found = tf.numpy_function(lambda rows: self.features[rows], [rows], tf.float32, stateful=False)
            return tf.ensure_shape(found, (None, *self.features.shape[1:])), tf.gather(targets, rows % n)

        def one_epoch(epoch: Any, order: Any) -> Any:
            rows = tf.data.Dataset.from_tensor_slices(order + n * (epoch % self.views))
            return batched(rows, n, self.batch).map(load)

        orders = np.stack([epoch_order(n, self.seed, epoch) for epoch in epochs])
        batches = tf.data.Dataset.from_tensor_slices((np.array(epochs), orders)).flat_map(one_epoch)
        if self.extra is not None:
            batches = join_extra(batches, tf.constant(self.extra), orders, self.batch, training=True)
        return batches.prefetch(2)

    def validation(self) -> Any:
        """Return batches of the validation part."""
        batches = tf.data.Dataset.from_tensor_slices((self.val_features, self.val_targets)).batch(self.batch)
        if self.val_extra is None:
            return batches
        order = np.arange(len(self.val_targets))[None]
        return join_extra(batches, tf.constant(self.val_extra), order, self.batch, training=False)


def head_on_features(model: Any, feed: PixelFeed, views: int, title: str) -> tuple[Any, FeatureFeed]:
    """Put stored features in the place of a frozen backbone.

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
        From features (and extra inputs) to probabilities; it shares its layers with `model`, which is thereby trained.
    feed : FeatureFeed

    Raises
    ------
    MachineError
        The batch does not fit into memory, be it of the backbone (where it has to run at all) or of the head.
    """
    extractor, head = split_model(model)
    check_batch(head, feed.batch)  # before the hours that the backbone may take
    extra, feed = feed.extra, replace(feed, extra=None)  # the backbone sees the pixels alone
    common = {"extractor": extractor.to_json(), "weights": _digest(extractor.get_weights())}
    common |= {"code": CODE, "keras": keras.__version__, "tf": tf.__version__}
    augment = feed.params.augment.model_dump(include={"every", "copies"})
    pixels, n, n_val = feed.store.array, len(feed.items), len(feed.val_targets)
    drawn = {
        "pixels": _digest([pixels]),
        "items": _digest([feed.items.index, feed.items.copy]),
        "augment": {"every": augment["every"], "copies": augment["copies"].get(feed.task)},
        "seed": feed.params.seed if augment["every"] or feed.items.copy.any() else None,
        "views": views,
    }
    told = [f"{title}, {part}" for part in ("training", "validation")]
    if drawn["seed"] is None:
        views = 1  # all views would be the same
        features = image_features(extractor, pixels[:n], feed.batch, common, told[0])
    else:
        train = feed.train(range(views), shuffled=False)
        features = stored_features(extractor, train, feed.batch, n * views, {**common, **drawn}, told[0])
    plain = pixels[len(pixels) - n_val :]
    val = image_features(extractor, plain, feed.batch, common, told[1])
    targets, val_targets = (encode_targets(t, feed.classes) for t in (feed.items.target, feed.val_targets))
    stored = FeatureFeed(features, targets, val, val_targets, views, feed.batch, feed.params.seed)
    if extra is not None:
        stored = replace(stored, extra=extra[feed.items.index], val_extra=extra[len(extra) - n_val :])
    return head, stored


def split_model(model: Any) -> tuple[Any, Any]:
    """Cut a network where its frozen part ends.

    Parameters
    ----------
    model
        As `build_model` makes it, with no trainable weight in its backbone.

    Returns
    -------
    extractor, head : keras.Model
        From pixels to features, and from features to probabilities. The features are pooled, (n, channels), unless the
        head has layers before the pool: then they are the feature map. Both share their layers with `model`.
    """
    names = {layer.name for layer in model.layers}
    before_pool = "head_feature_bn" in names
    cut = model.get_layer("head_feature_bn").input if before_pool else model.get_layer("head_pool").output
    named = {tensor.name: tensor for tensor in model.inputs}
    extra = [named["extra"]] if "extra" in named else []
    pixels = named["pixels"] if extra else model.input
    features = [cut, *extra] if extra else cut
    return keras.Model(pixels, cut, name="extractor"), keras.Model(features, model.output, name="head")


def _digest(arrays: list[np.ndarray]) -> str:
    """Hash the values and shapes of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
