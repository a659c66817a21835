"""Random erasing: a rectangle of the image is hidden."""

import math
from typing import Annotated, Any

from pydantic import Field

from biopsy.training.augment.registry import Operation, register
from biopsy.training.tensors.engine import tf

AREA = (0.02, 0.4)  # of the image (Zhong et al., section 4.2: s_l, s_h)
ASPECT = (0.3, 1 / 0.3)  # height to width (r_1, r_2)


def rectangle(seed: Any, side: Any) -> Any:
    """Draw top, left, bottom and right of the hidden part of an image of `side` pixels; (4,) int32.

    The paper draws again until the rectangle fits; here the aspect is held to what fits, so that one draw is enough.
    """
    area, aspect, y, x = tf.unstack(tf.random.stateless_uniform((4,), seed))
    area = AREA[0] + area * (AREA[1] - AREA[0])
    aspect = tf.exp(math.log(ASPECT[0]) + aspect * (math.log(ASPECT[1]) - math.log(ASPECT[0])))
    aspect = tf.clip_by_value(aspect, area, 1 / area)
    size = tf.cast(side, tf.float32)
    height, width = size * tf.sqrt(area * aspect), size * tf.sqrt(area / aspect)
    top, left = y * (size - height), x * (size - width)
    return tf.cast(tf.round(tf.stack([top, left, top + height, left + width])), tf.int32)


def erase(image: Any, seed: Any, strength: float) -> Any:
    """Hide a rectangle of 2 to 40 % of the area in `strength` of the images, under the image's own mean colour.

    The paper fills with noise or with ImageNet's mean; both are colours that no stain has. The own mean keeps the
    statistics of the image, which batch norms see.
    """

    def hidden() -> Any:
        top, left, bottom, right = tf.unstack(rectangle(seed, tf.shape(image)[0]))
        # Put together of whole pieces, which are only copied: a mask over all pixels takes three times as long.
        hole = tf.broadcast_to(tf.reduce_mean(image, axis=(0, 1)), (bottom - top, right - left, 3))
        rows = image[top:bottom]
        middle = tf.concat([rows[:, :left], hole, rows[:, right:]], 1)
        return tf.ensure_shape(tf.concat([image[:top], middle, image[bottom:]], 0), image.shape)

    chosen = tf.random.stateless_uniform((), tf.random.fold_in(seed, 1)) < strength
    return tf.cond(chosen, hidden, lambda: image)


register(
    Operation(
        "erasing",
        Annotated[float, Field(ge=0, le=1)],
        erase,
        "A rectangle hidden in this share of the images (random erasing, Zhong et al., AAAI 2020).",
        0.5,
        "mask",
    )
)
