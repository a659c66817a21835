"""Two images of a batch become one, and their labels with them: MixUp and CutMix."""

from typing import Any

from biopsy.core.sections.train import Mix
from biopsy.training.tensors.engine import tf


def mix_batch(images: Any, targets: Any, seed: Any, mix: Mix) -> tuple[Any, Any]:
    """Mix each image of a batch with another of it.

    Where both kinds are on, a coin decides for the whole batch.

    Parameters
    ----------
    images
        (n, size, size, 3), float32, 0 to 255.
    targets
        (n, c), float32, as `encode_targets` makes them.
    seed
        Two integers; equal seeds give equal results.
    mix
        The section `augment.mix`.

    Returns
    -------
    images, targets : tf.Tensor
        As given. A row of mixed targets sums to what the rows sum to that it is mixed from: one for a softmax; a single
        output stays between 0 and 1.
    """
    coin, order, draw = tf.unstack(tf.random.split(seed, 3))
    n = tf.shape(images)[0]
    partner = tf.argsort(tf.random.stateless_uniform((n,), order))

    def mixed(kind: Any, alpha: float) -> tuple[Any, Any]:
        pixels, kept = kind(images, partner, draw, alpha)
        return pixels, kept * targets + (1 - kept) * tf.gather(targets, partner)

    if mix.mixup and mix.cutmix:
        heads = tf.random.stateless_uniform((), coin) < 0.5
        found: tuple[Any, Any] = tf.cond(heads, lambda: mixed(mixup, mix.mixup), lambda: mixed(cutmix, mix.cutmix))
        return found
    if mix.mixup:
        return mixed(mixup, mix.mixup)
    return mixed(cutmix, mix.cutmix) if mix.cutmix else (images, targets)


def mixup(images: Any, partner: Any, seed: Any, alpha: float) -> tuple[Any, Any]:
    """Blend each image with its partner (Zhang et al., arXiv 1710.09412); each with a share of its own.

    The larger share is the image's. Which of two images is called the partner does not change what they give, and so no
    image drops out of an epoch while another comes twice.

    Returns
    -------
    images
        (n, size, size, 3).
    kept
        (n, 1): the share of the image itself, x or 1 - x, whichever is larger, for an x of Beta(alpha, alpha).
    """
    drawn = beta(seed, tf.shape(images)[0], alpha)
    kept = tf.maximum(drawn, 1 - drawn)
    share = kept[:, None, None, None]
    others = tf.gather(images, partner)
    return others + share * (images - others), kept[:, None]


def cutmix(images: Any, partner: Any, seed: Any, alpha: float) -> tuple[Any, Any]:
    """Paste a rectangle of its partner into each image (Yun et al., arXiv 1905.04899), which is cut at the border.

    Returns
    -------
    images
        (n, size, size, 3).
    kept
        (n, 1): the share of the pixels that are the image's own.
    """
    n, side = tf.shape(images)[0], tf.shape(images)[1]
    size = tf.cast(side, tf.float32)
    half = size * tf.sqrt(1 - beta(seed, n, alpha)) / 2
    centre = size * tf.random.stateless_uniform((2, n), tf.random.fold_in(seed, 1))
    low, high = (
        tf.cast(tf.round(tf.clip_by_value(edge, 0, size)), tf.int32) for edge in (centre - half, centre + half)
    )
    line = tf.range(side)
    rows, columns = ((line >= low[axis, :, None]) & (line < high[axis, :, None]) for axis in (0, 1))
    pasted = rows[:, :, None] & columns[:, None, :]
    area = tf.cast((high[0] - low[0]) * (high[1] - low[1]), tf.float32)
    return tf.where(pasted[..., None], tf.gather(images, partner), images), (1 - area / size**2)[:, None]


def beta(seed: Any, n: Any, alpha: float) -> Any:
    """Draw n numbers of Beta(alpha, alpha); (n,) float32.

    Two gamma variables make one. Where a tiny alpha lets both underflow the answer is 0: the partner alone, one of the
    two ends that such an alpha means.
    """
    one, other = tf.unstack(tf.random.stateless_gamma(tf.stack([2, n]), seed, alpha, dtype=tf.float64))
    return tf.cast(tf.math.divide_no_nan(one, one + other), tf.float32)
