"""TensorFlow's stateless random numbers without TensorFlow: equal seeds give equal numbers, to the bit.

A seed is two integers. It is scrambled into the key and the counter of Philox 4x32-10 (Salmon et al., SC 2011), as
TensorFlow's `GenerateKey` does it; integers and floats are made of its bits as TensorFlow makes them.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = Any  # four 32-bit words: Python's integers, or arrays of uint64
MASK = 0xFFFFFFFF
SCRAMBLE = (0x3EC8F720, 0x02461E29)
FEW = 32  # words: up to here Python's integers are faster than arrays
SAMPLE = 256  # blocks of four words that TensorFlow reserves for each gamma variable
EPSILON = 1e-7


def _philox(key: tuple[int, int], counter: Words) -> Words:
    """Turn a counter into four words; ten rounds."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        one, two = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (two >> 32) ^ c1 ^ k0, two & MASK, (one >> 32) ^ c3 ^ k1, one & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def _start(seed: Any) -> tuple[tuple[int, int], int, int]:
    """Return the key of a seed and the upper half of its counter."""
    first, second = (int(number) & 0xFFFFFFFFFFFFFFFF for number in seed)
    k0, k1, c2, c3 = _philox(SCRAMBLE, (first & MASK, first >> 32, second & MASK, second >> 32))
    return (k0, k1), c2, c3


def words(seed: Any, n: int) -> NDArray[np.uint32]:
    """Draw n words of 32 bits, (n,)."""
    key, c2, c3 = _start(seed)
    if n <= FEW:
        drawn = [word for block in range(-(-n // 4)) for word in _philox(key, (block, 0, c2, c3))]
        return np.array(drawn[:n], np.uint32)
    block = np.arange(-(-n // 4), dtype=np.uint64)
    upper = (np.full_like(block, c2), np.full_like(block, c3))
    with np.errstate(over="ignore"):
        found = _philox(key, (block & np.uint64(MASK), block >> np.uint64(32), *upper))
    return np.stack(found, axis=-1).reshape(-1)[:n].astype(np.uint32)


def fold_in(seed: Any, data: Any) -> tuple[int, int]:
    """Make a seed of a seed and an integer."""
    return _signed(words(seed, 1)[0]), int(data)


def split(seed: Any, num: int = 2) -> list[tuple[int, int]]:
    """Make `num` seeds of one."""
    drawn = [_signed(word) for word in words(seed, 2 * num)]
    return list(zip(drawn[::2], drawn[1::2], strict=True))


def _signed(word: Any) -> int:
    return int(word) - (int(word) >> 31 << 32)


def uniform(shape: tuple[int, ...], seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = np.float32) -> Any:
    """Draw float32 in [minval, maxval), or int32 where `dtype` says so."""
    drawn = words(seed, math.prod(shape)).reshape(shape)
    if np.issubdtype(dtype, np.integer):
        return (minval + drawn % np.uint32(maxval - minval)).astype(dtype)[()]
    low, high = np.float32(minval), np.float32(1 if maxval is None else maxval)
    return (_floats(drawn) * (high - low) + low)[()]


def normal(shape: tuple[int, ...], seed: Any) -> NDArray[np.float32]:
    """Draw standard normal float32 (Box and Muller)."""
    n = math.prod(shape)
    pairs = _floats(words(seed, n + n % 2)).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log(np.maximum(pairs[:, 0], np.float32(EPSILON))))
    angle = np.float32(2 * math.pi) * pairs[:, 1]
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], 1).reshape(-1)[:n].reshape(shape)


def _floats(drawn: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Turn words into float32 in [0, 1): 23 bits of each."""
    return ((drawn & np.uint32(0x7FFFFF)) | np.uint32(127 << 23)).view(np.float32) - np.float32(1)


def gamma(shape: tuple[int, ...], seed: Any, alpha: float) -> NDArray[np.float64]:
    """Draw gamma variables of scale 1 (Marsaglia and Tsang, ACM TOMS 26(3), 2000), as TensorFlow does in float64."""
    key, c2, c3 = _start(seed)
    drawn = [_gamma(_doubles(key, (c2, c3), SAMPLE * i), alpha) for i in range(math.prod(shape))]
    return np.maximum(np.array(drawn), np.finfo(np.float64).tiny).reshape(shape)


def _doubles(key: tuple[int, int], upper: tuple[int, int], block: int) -> Iterator[tuple[float, float]]:
    """Yield two doubles in [0, 1) of each block of four words, 52 bits each."""
    while True:
        x0, x1, x2, x3 = _philox(key, (block & MASK, block >> 32, *upper))
        yield tuple(((high & 0xFFFFF) << 32 | low) / 2**52 for high, low in ((x0, x1), (x2, x3)))
        block += 1


def _gamma(pairs: Iterator[tuple[float, float]], alpha: float) -> float:
    uniforms: list[float] = []
    normals: list[float] = []

    def draw() -> float:
        if not uniforms:
            uniforms.extend(next(pairs))
        return uniforms.pop()

    if alpha == 1:
        return -math.log1p(-draw())
    d = alpha + (2 / 3 if alpha < 1 else -1 / 3)
    c = 1 / 3 / math.sqrt(d)
    while True:
        if not normals:
            one, two = next(pairs)
            radius, angle = math.sqrt(-2 * math.log(max(one, EPSILON))), 2 * math.pi * two
            normals = [math.sin(angle) * radius, math.cos(angle) * radius]
        x = normals.pop()
        v = (1 + c * x) ** 3
        if v <= 0:
            continue
        u = draw()
        if u < 1 - 0.0331 * x**4 or (u > 0 and math.log(u) < 0.5 * x * x + d * (1 - v + math.log(v))):
            return d * v * (draw() ** (1 / alpha) if alpha < 1 else 1)
