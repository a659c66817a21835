"""The part of TensorFlow that augmentations use, in NumPy and OpenCV: `tf.where`, `tf.random.fold_in` and their like.

One image at a time, at once and not as a graph: a branch that is not taken costs nothing, and threads run side by side
where NumPy and OpenCV leave Python. Names and arguments are TensorFlow's, so that an augmentation is written once.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from biopsy.core.errors import ParamsError
from biopsy.training.tensors import philox

BORDERS = {"REFLECT": cv2.BORDER_REFLECT_101, "SYMMETRIC": cv2.BORDER_REFLECT, "CONSTANT": cv2.BORDER_CONSTANT}


class Namespace(SimpleNamespace):
    """Operations by name; one that is missing is said in a sentence."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ParamsError(
            f"an augmentation uses tf.{name}, which only TensorFlow has. Set train.backend to tensorflow, or leave the "
            "augmentation out."
        )


def _constant(value: Any, dtype: Any = None) -> Any:
    found = np.asarray(value, dtype)
    narrow = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}.get(found.dtype)
    return found if dtype is not None or isinstance(value, np.ndarray) or narrow is None else found.astype(narrow)


def _cast(value: Any, dtype: Any) -> Any:
    return value.astype(dtype, copy=False) if isinstance(value, np.ndarray | np.generic) else dtype(value)


def _while_loop(cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Sequence[Any]) -> Any:
    while cond(*loop_vars):
        loop_vars = body(*loop_vars)
    return loop_vars


def _switch_case(index: Any, branches: Sequence[Callable[[], Any]]) -> Any:
    return branches[int(index) if 0 <= index < len(branches) else -1]()


def _pad(array: Any, paddings: Any, mode: str = "CONSTANT") -> Any:
    if array.ndim != 3:
        return np.pad(array, paddings)
    (top, bottom), (left, right), _ = paddings
    return cv2.copyMakeBorder(array, top, bottom, left, right, BORDERS[mode])


def _of_images(fast: Callable[[Any], Any], exact: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """OpenCV's function, four times as fast as NumPy's, for what is as large as an image."""
    return lambda array: fast(array) if np.ndim(array) > 1 and array.dtype == np.float32 else exact(array)


_log, _exp = _of_images(cv2.log, np.log), _of_images(cv2.exp, np.exp)


def _over(best: np.ufunc) -> Callable[..., Any]:
    """The largest or smallest; over the few channels of many pixels, channel by channel, in a twentieth of the time."""

    def reduce(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
        if not isinstance(axis, int) or array.shape[axis] != 3:
            return best.reduce(array, axis=axis, keepdims=keepdims)
        one, two, three = np.moveaxis(array, axis, 0)
        found = best(best(one, two), three)
        return np.expand_dims(found, axis) if keepdims else found

    return reduce


def _matmul(one: Any, other: Any) -> Any:
    """The matrix product; of the colours of many pixels without BLAS, whose threads would get in the way of ours."""
    if one.dtype == other.dtype == np.float32 and one.shape[1:] == (3,) and other.shape == (3, 3):
        return cv2.transform(one[:, None], other.T)[:, 0]
    return one @ other


_max, _min = _over(np.maximum), _over(np.minimum)


def _matvec(matrix: Any, vector: Any, transpose_a: bool = False) -> Any:
    return (matrix.T if transpose_a else matrix) @ vector


def _divide_no_nan(one: Any, other: Any) -> Any:
    return np.divide(one, other, out=np.zeros_like(one), where=other != 0)


def _projective(*, images: Any, transforms: Any, output_shape: Any, **_: Any) -> Any:
    """Show at (x, y) what `images` has at (a x + b y + c, d x + e y + f): bilinear, mirrored at the border."""
    rows, columns = (np.arange(side, dtype=np.float32) for side in output_shape)
    a, b, c, d, e, f = transforms[0][:6]
    x, y = a * columns + (b * rows + c)[:, None], d * columns + (e * rows + f)[:, None]
    return cv2.remap(images[0], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)[None]


def _flipped(axis: int) -> Callable[[Any, Any], Any]:
    return lambda image, seed: np.flip(image, axis) if philox.uniform((), seed) < 0.5 else image


def _brightness(image: Any, max_delta: float, seed: Any) -> Any:
    return image + philox.uniform((), seed, -max_delta, max_delta)


def _contrast(image: Any, lower: float, upper: float, seed: Any) -> Any:
    mean = np.array(cv2.mean(image)[:3], np.float32)
    return (image - mean) * philox.uniform((), seed, lower, upper) + mean


def _cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    return true_fn() if pred else false_fn()


def _gather(params: Any, indices: Any) -> Any:
    return params[indices]


def _uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = np.float32
) -> Any:  # TensorFlow's order of arguments
    return philox.uniform(tuple(int(side) for side in shape), seed, minval, maxval, dtype)


def _mean(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if axis == (0, 1) and array.ndim == 3 and not keepdims:
        return np.array(cv2.mean(array)[: array.shape[2]], array.dtype)
    return np.mean(array, axis=axis, keepdims=keepdims)


tf = Namespace(
    float32=np.float32, float64=np.float64, int32=np.int32, uint8=np.uint8,
    constant=_constant, cast=_cast, shape=np.shape, ensure_shape=lambda array, shape: array,
    cond=_cond, switch_case=_switch_case, while_loop=_while_loop,
    stack=np.stack, unstack=list, concat=lambda values, axis: np.concatenate(values, axis=axis),
    split=lambda array, number, axis=0: np.split(array, number, axis=axis),
    reshape=np.reshape, transpose=np.transpose, broadcast_to=np.broadcast_to,
    gather=_gather, reverse=lambda array, axis: np.flip(array, tuple(axis)), pad=_pad,
    range=lambda n: np.arange(n, dtype=np.int32), argsort=lambda array: np.argsort(array).astype(np.int32),
    eye=lambda n: np.eye(n, dtype=np.float32), where=np.where, clip_by_value=np.clip,
    reduce_mean=_mean, reduce_max=_max, reduce_min=_min, reduce_sum=np.sum,
    abs=np.abs, sign=np.sign, sqrt=np.sqrt, exp=_exp, cos=np.cos, sin=np.sin, tan=np.tan, floor=np.floor,
    round=np.round, maximum=np.maximum, minimum=np.minimum, pow=np.power, matmul=_matmul, zeros_like=np.zeros_like,
    ones_like=np.ones_like,
    math=Namespace(log=_log, exp=_exp, pow=np.power, divide_no_nan=_divide_no_nan),
    linalg=Namespace(matvec=_matvec),
    raw_ops=Namespace(ImageProjectiveTransformV3=_projective),
    random=Namespace(
        fold_in=philox.fold_in, split=philox.split, stateless_uniform=_uniform,
        stateless_normal=lambda shape, seed: philox.normal(tuple(shape), seed),
        stateless_gamma=lambda shape, seed, alpha, dtype: philox.gamma(tuple(shape), seed, alpha).astype(dtype),
    ),
    image=Namespace(
        stateless_random_flip_left_right=_flipped(1), stateless_random_flip_up_down=_flipped(0),
        rot90=lambda image, k: np.rot90(image, int(k)), stateless_random_brightness=_brightness,
        stateless_random_contrast=_contrast,
    ),
)  # fmt: skip
