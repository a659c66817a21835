"""MedAugment (Liu et al., arXiv 2306.17466), to the authors' code (NUS-Tim/MedAugment, utils/medaugment.py).

The authors make four new images of each training image before training, one for each branch, and keep the original.
Here every image of every epoch is drawn from those five with equal chance: over the epochs the same mixture, without
five times the images.

Two things differ. Their warps uncover black; here the image is mirrored (see `affine`). Their images are 8-bit between
two operations; here values are not rounded.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from biopsy.core.sections.section import Section
from biopsy.training.augment import affine, tone
from biopsy.training.augment.registry import Operation, register
from biopsy.training.augment.sharpness import neighbours
from biopsy.training.tensors.engine import tf

# Pixel operations and spatial ones in each branch; the fifth row is the original.
BRANCHES = ((1, 2), (0, 3), (0, 2), (1, 1), (0, 0))
SLOTS = 3
# What OpenCV takes for a Gaussian of 3, 5 and 7 taps whose sigma is left to it.
KERNELS = ((1, 2, 1), (1, 4, 6, 4, 1), (2, 7, 14, 18, 14, 7, 2))


class MedAugment(Section):
    """The paper's one knob."""

    level: Annotated[int, Field(ge=1, le=5)]


def brightness(image: Any, seed: Any, level: int) -> Any:
    """Multiply by 1 - 0.04 level to 1 + 0.04 level."""
    return tone.brighten(image, _between(seed, 1 - 0.04 * level, 1 + 0.04 * level))


def contrast(image: Any, seed: Any, level: int) -> Any:
    """Scale about the mean by 1 - 0.04 level to 1 + 0.04 level."""
    return tone.stretch_contrast(image, _between(seed, 1 - 0.04 * level, 1 + 0.04 * level))


def posterize(image: Any, seed: Any, level: int) -> Any:
    """Keep the highest floor(8 - 0.8 level) bits of each value."""
    step = 2.0 ** (8 - math.floor(8 - 0.8 * level))
    return step * tf.floor(image / step)


def sharpen(image: Any, seed: Any, level: int) -> Any:
    """Blend with an image sharpened by (-1, 9, -1): 0.04 level to 0.1 level of it."""
    alpha = _between(seed, 0.04 * level, 0.1 * level)
    return tf.clip_by_value(image + 9 * alpha * (image - neighbours(image)), 0, 255)


def blur(image: Any, seed: Any, level: int) -> Any:
    """Blur by a Gaussian of 3 taps to the odd number that is at least 3 + 0.8 level."""
    kernels = [_taps(kernel) for kernel in KERNELS if len(kernel) <= math.ceil(3 + 0.8 * level) // 2 * 2 + 1]
    drawn = tf.random.stateless_uniform((), seed, 0, len(kernels), tf.int32)
    return tf.switch_case(drawn, [lambda taps=taps: _smooth(image, taps) for taps in kernels])


def noise(image: Any, seed: Any, level: int) -> Any:
    """Add Gaussian noise of a variance of 2 level to 10 level, for each value on its own."""
    sigma = tf.sqrt(_between(tf.random.fold_in(seed, 1), 2.0 * level, 10.0 * level))
    return tf.clip_by_value(image + sigma * tf.random.stateless_normal(tf.shape(image), seed), 0, 255)


def rotate(image: Any, seed: Any, level: int) -> Any:
    """Turn by at most 4 level degrees."""
    return affine.rotate(image, _between(seed, -4 * level, 4 * level))


def flip_x(image: Any, seed: Any, level: int) -> Any:
    """Mirror left to right."""
    return tf.reverse(image, [1])


def flip_y(image: Any, seed: Any, level: int) -> Any:
    """Mirror top to bottom."""
    return tf.reverse(image, [0])


def scale(image: Any, seed: Any, level: int) -> Any:
    """Scale by 1 - 0.04 level to 1 + 0.04 level."""
    return affine.scale(image, _between(seed, 1 - 0.04 * level, 1 + 0.04 * level))


def shear_x(image: Any, seed: Any, level: int) -> Any:
    """Slant rows by 0 to 2 level degrees."""
    return affine.shear_x(image, tf.tan(_between(seed, 0, math.radians(2 * level))))


def shear_y(image: Any, seed: Any, level: int) -> Any:
    """Slant columns by 0 to 2 level degrees."""
    return affine.shear_y(image, tf.tan(_between(seed, 0, math.radians(2 * level))))


def translate_x(image: Any, seed: Any, level: int) -> Any:
    """Move right by 0 to 0.02 level of the side."""
    return affine.translate_x(image, _between(seed, 0, 0.02 * level))


def translate_y(image: Any, seed: Any, level: int) -> Any:
    """Move down by 0 to 0.02 level of the side."""
    return affine.translate_y(image, _between(seed, 0, 0.02 * level))


Step = Callable[[Any, Any, int], Any]
PIXEL: tuple[Step, ...] = (brightness, contrast, posterize, sharpen, blur, noise)
SPATIAL: tuple[Step, ...] = (rotate, flip_x, flip_y, scale, shear_x, shear_y, translate_x, translate_y)
IDENTITY = len(PIXEL) + len(SPATIAL)


def plan(seed: Any) -> Any:
    """Draw what one image gets: (3,) int32, places in PIXEL + SPATIAL, or `IDENTITY` where a slot is empty.

    One branch, or the original, with equal chance; its operations without repetition, in a shuffled order.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    branch = tf.random.stateless_uniform((), seeds[0], 0, len(BRANCHES), tf.int32)
    pixel = _order(seeds[1], len(PIXEL))[:1]
    spatial = _order(seeds[2], len(SPATIAL))[:SLOTS] + len(PIXEL)
    drawn = tf.concat([pixel, spatial, [IDENTITY]], axis=0)
    # For each branch, which of `drawn` fill the slots: pixel operations from place 0, spatial ones from place 1.
    rows = [([0] * p + [1, 2, 3][:s] + [4] * SLOTS)[:SLOTS] for p, s in BRANCHES]
    return tf.gather(tf.gather(drawn, tf.constant(rows)[branch]), _order(seeds[3], SLOTS))


def med_augment(image: Any, seed: Any, strength: MedAugment) -> Any:
    """Apply one branch, or nothing; each of its operations with a chance of 0.2 level. Only those are computed."""
    level, slots = strength.level, plan(seed)
    chances = tf.random.stateless_uniform((SLOTS,), tf.random.fold_in(seed, SLOTS))
    steps: list[Step] = [*PIXEL, *SPATIAL, lambda image, seed, level: image]

    def one(slot: Any, image: Any) -> tuple[Any, Any]:
        own, chosen = tf.random.fold_in(seed, slot), tf.where(chances[slot] < 0.2 * level, slots[slot], IDENTITY)
        branches = [lambda step=step: step(image, own, level) for step in steps]
        return slot + 1, tf.ensure_shape(tf.switch_case(chosen, branches), image.shape)

    _, image = tf.while_loop(lambda slot, _: slot < SLOTS, one, (0, image))
    return image


def _between(seed: Any, low: float, high: float) -> Any:
    return tf.random.stateless_uniform((), seed, float(low), float(high))


def _order(seed: Any, n: int) -> Any:
    """Draw an order of n things; (n,) int32."""
    return tf.argsort(tf.random.stateless_uniform((n,), seed))


def _taps(kernel: tuple[int, ...]) -> list[float]:
    return [tap / sum(kernel) for tap in kernel]


def _smooth(image: Any, taps: list[float]) -> Any:
    """Convolve with a separable kernel, borders mirrored without repeating the edge, as OpenCV does."""
    reach, size = len(taps) // 2, tf.shape(image)[0]
    padded = tf.pad(image, [[reach, reach], [reach, reach], [0, 0]], "REFLECT")
    rows = sum(tap * padded[i : i + size] for i, tap in enumerate(taps))
    return sum(tap * rows[:, i : i + size] for i, tap in enumerate(taps))


register(
    Operation(
        "medaugment",
        MedAugment,
        med_augment,
        "One of four branches of up to three operations, or the original (MedAugment, Liu et al., arXiv 2306.17466).",
        {"level": 5},
        "policy",
    )
)
