"""RandAugment (Cubuk et al., arXiv 1909.13719) with a table that keeps H&E looking like H&E."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from biopsy.core.sections.section import Section
from biopsy.training.augment import affine, tone
from biopsy.training.augment.registry import Operation, register
from biopsy.training.augment.sharpness import sharpen
from biopsy.training.augment.stain import stain_jitter
from biopsy.training.tensors.engine import tf

MAGNITUDES = 30  # of the paper: m runs from 0 to 30

# What each operation does at most, at m = 30, times a drawn sign. The paper's table goes to turns of 30 degrees, shears
# of 0.3 and colours of nine tenths. It also has solarize, posterize, equalize and autocontrast (AutoAugment's has
# invert), which turn pink tissue green or black, or undo the stain: they are left out. The stain is added.
TABLE: dict[str, tuple[float, Callable[[Any, Any], Any] | None]] = {
    "identity": (0.0, lambda image, amount: image),
    "rotate": (15.0, affine.rotate),  # degrees: what is mirrored in at the corners stays small
    "shear_x": (0.15, affine.shear_x),
    "shear_y": (0.15, affine.shear_y),
    "translate_x": (0.15, affine.translate_x),  # of the side
    "translate_y": (0.15, affine.translate_y),
    "brightness": (0.25, lambda image, amount: tone.brighten(image, 1 + amount)),
    "contrast": (0.4, lambda image, amount: tone.stretch_contrast(image, 1 + amount)),
    "saturation": (0.4, lambda image, amount: tone.saturate(image, 1 + amount)),
    "sharpness": (0.9, lambda image, amount: sharpen(image, 1 + amount)),
    "stain": (0.1, None),  # for each dye an amount of its own within this bound, so `apply` gives it a seed
}


def _check_n(n: int) -> int:
    if n > len(TABLE):
        raise ValueError(
            f"must be at most {len(TABLE)}, for there are {len(TABLE)} operations and none is applied twice"
        )
    return n


class RandAugment(Section):
    """How many operations of the table an image gets, and how strong they are (0 to 30)."""

    n: Annotated[int, Field(ge=1), AfterValidator(_check_n)]
    m: Annotated[float, Field(ge=0, le=MAGNITUDES)]


def plan(seed: Any, n: int) -> tuple[Any, Any]:
    """Draw what happens to one image.

    The paper draws with replacement. Here no operation comes twice, so that no bound of the table is exceeded.

    Returns
    -------
    chosen : tf.Tensor
        (n,) int32, distinct rows of `TABLE`, in the order of application.
    signs : tf.Tensor
        (n,) float32, -1 or 1.
    """
    draw = tf.random.stateless_uniform((2, len(TABLE)), seed)
    return tf.argsort(draw[0])[:n], tf.sign(draw[1, :n] - 0.5)


def rand_augment(image: Any, seed: Any, strength: RandAugment) -> Any:
    """Apply `n` operations of magnitude `m`; only those are computed."""
    chosen, signs = plan(seed, strength.n)

    def one(step: Any, image: Any) -> tuple[Any, Any]:
        own = tf.random.fold_in(seed, step)
        branches = [lambda name=name: apply(name, image, signs[step], strength.m, own) for name in TABLE]
        return step + 1, tf.ensure_shape(tf.switch_case(chosen[step], branches), image.shape)

    # A loop, and not n copies of the table: the graph is built once.
    _, image = tf.while_loop(lambda step, _: step < strength.n, one, (0, image))
    return image


def apply(name: str, image: Any, sign: Any, m: float, seed: Any) -> Any:
    """Apply one row of the table at magnitude `m`."""
    most, operation = TABLE[name]
    amount = most * m / MAGNITUDES
    return operation(image, sign * amount) if operation else stain_jitter(image, seed, amount)


register(
    Operation(
        "randaugment",
        RandAugment,
        rand_augment,
        "n operations of magnitude m from an H&E-safe table (RandAugment, Cubuk et al., arXiv 1909.13719).",
        {"n": 2, "m": 15},
        "policy",
    )
)
