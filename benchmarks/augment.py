"""Claim: RandAugment makes at least 10 times as many images a second as Keras's layer, each image with its own draw.

    python benchmarks/augment.py                    all operations, 256 px, about 5 minutes on two cores
    python benchmarks/augment.py randaugment        one of them

Both sides run in `tf.data` on uint8 images in memory, batches of 16, as many threads as TensorFlow takes, in rounds
that alternate so that a busy machine slows both alike; the ratio is the median over the rounds.

    ours     the registry's operation, mapped image by image; MixUp and CutMix batch by batch
    Keras    the layer of the same name. Mapped image by image, and mapped batch by batch where that gives each image of
             a batch a draw of its own (found out by a batch of equal images): the faster of the two counts

albumentations and torchvision v2 stand beside them where they are installed and have the operation: uint8 images in
memory, an image at a time, as many threads as cores. Others draw from wider ranges; the work is the same.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from biopsy.core.sections.train import Mix
from biopsy.networks.backend import keras, tf
from biopsy.training.augment.mix import mix_batch
from biopsy.training.augment.pipeline import augment_image
from biopsy.training.augment.registry import OPERATIONS, check_strengths
from measure import Found, Row, options, parse, peak_mb, rounds, tell, versus

BATCH = 16
GOALS = {("randaugment", "Keras"): ">=10"}
STRENGTHS = {name: operation.example for name, operation in OPERATIONS.items()}
STRENGTHS["erasing"] = 1.0  # Keras's layer erases in every image
MIXES = {"mixup": Mix(mixup=0.4), "cutmix": Mix(cutmix=1.0)}
RANGE = {"value_range": (0, 255)}
LAYERS: dict[str, Callable[[], Any]] = {
    "flip": lambda: keras.layers.RandomFlip("horizontal_and_vertical"),
    "brightness": lambda: keras.layers.RandomBrightness(0.1, **RANGE),
    "contrast": lambda: keras.layers.RandomContrast(0.1, **RANGE),
    "saturation": lambda: keras.layers.RandomSaturation(0.1, **RANGE),
    "sharpness": lambda: keras.layers.RandomSharpness(0.5, **RANGE),
    "erasing": lambda: keras.layers.RandomErasing(1.0, **RANGE),
    "randaugment": lambda: keras.layers.RandAugment(num_ops=2, factor=0.5, **RANGE),
    "mixup": lambda: keras.layers.MixUp(0.4),
    "cutmix": lambda: keras.layers.CutMix(1.0),
}


def ours(name: str, images: Any, count: int) -> Any:
    """Make a data set of `count` changed images, in batches."""
    rows = tf.data.Dataset.range(count)
    if name in MIXES:
        batches = rows.map(lambda i: (example(images, i), label(i)), tf.data.AUTOTUNE).batch(BATCH).enumerate()
        mix = MIXES[name]
        return batches.map(lambda b, pair: mix_batch(pair[0], pair[1], seed_of(b), mix)[0], tf.data.AUTOTUNE)
    checked = check_strengths({name: STRENGTHS[name]}, "benchmark")
    changed = rows.map(lambda i: augment_image(images[i % len(images)], seed_of(i), checked), tf.data.AUTOTUNE)
    return changed.batch(BATCH)


def theirs(layer: Any, name: str, batched: bool, images: Any, count: int) -> Any:
    """Make a data set of `count` images that Keras's layer changed, in batches."""
    rows = tf.data.Dataset.range(count)
    if name in MIXES:
        pairs = rows.map(lambda i: {"images": example(images, i), "labels": label(i)}, tf.data.AUTOTUNE).batch(BATCH)
        return pairs.map(lambda pair: layer(pair, training=True)["images"], tf.data.AUTOTUNE)
    if batched:
        plain = rows.map(lambda i: example(images, i), tf.data.AUTOTUNE).batch(BATCH)
        return plain.map(lambda batch: layer(batch, training=True), tf.data.AUTOTUNE)
    return rows.map(lambda i: layer(example(images, i), training=True), tf.data.AUTOTUNE).batch(BATCH)


def example(images: Any, i: Any) -> Any:
    return tf.cast(images[i % len(images)], tf.float32)


def seed_of(i: Any) -> Any:
    return tf.stack([tf.zeros_like(i), i])


def label(i: Any) -> Any:
    return tf.one_hot(i % 8, 8)


def draws_for_each(layer: Any, images: Any) -> bool:
    """Say whether a batch of equal images comes back unequal, so that each had its own draw."""
    batch = tf.cast(tf.repeat(images[:1], BATCH, axis=0), tf.float32)
    for _ in range(3):
        changed = np.asarray(layer(batch, training=True))
        if any(not np.array_equal(changed[0], other) for other in changed[1:]):
            return True
    return False


def speed(dataset: Any, seconds: float) -> float:
    """Return the images a second that come out of a data set, after a start that is not counted."""
    batches = iter(dataset.repeat().prefetch(2))
    for _ in range(4):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def others(name: str) -> dict[str, Callable[[np.ndarray], Any]]:
    """Return the same operation of albumentations and of torchvision v2, where they are installed and have it.

    From (size, size, 3) uint8 to the same, an image at a time; both are called in as many threads as cores.
    """
    found: dict[str, Callable[[np.ndarray], Any]] = {}
    with suppress(ImportError, RuntimeError):
        import albumentations as a

        known = {
            "flip": lambda: a.Compose([a.HorizontalFlip(p=0.5), a.VerticalFlip(p=0.5)]),
            "rot90": lambda: a.RandomRotate90(p=1),
            "brightness": lambda: a.RandomBrightnessContrast(0.1, 0, p=1),
            "contrast": lambda: a.RandomBrightnessContrast(0, 0.1, p=1),
            "saturation": lambda: a.ColorJitter(1, 1, (0.9, 1.1), 0, p=1),
            "sharpness": lambda: a.Sharpen((0.2, 0.5), (0.5, 1.0), p=1),
            "erasing": lambda: a.Erasing(p=1),
        }
        if name in known:
            made = known[name]()
            found["albumentations"] = lambda image: made(image=image)["image"]
    with suppress(ImportError, RuntimeError):
        import torch
        from torchvision.transforms import v2

        torch.set_num_threads(1)
        layers = {
            "flip": lambda: v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]),
            "brightness": lambda: v2.ColorJitter(brightness=0.1),
            "contrast": lambda: v2.ColorJitter(contrast=0.1),
            "saturation": lambda: v2.ColorJitter(saturation=0.1),
            "sharpness": lambda: v2.RandomAdjustSharpness(1.5, p=1),
            "erasing": lambda: v2.RandomErasing(p=1),
            "randaugment": lambda: v2.RandAugment(2, 9),
        }
        if name in layers:
            layer = layers[name]()
            found["torchvision"] = lambda image: layer(torch.from_numpy(image).permute(2, 0, 1))
    return found


def alone(change: Callable[[np.ndarray], Any], images: np.ndarray, seconds: float) -> float:
    """Return the images a second that a function changes, in as many threads as cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            count += len(list(pool.map(change, images)))
        return count / (time.perf_counter() - start)


def ways(name: str, images: Any, count: int) -> dict[str, Any]:
    """Return the data sets to be timed: ours, and Keras's one or two."""
    found = {"ours": ours(name, images, count)}
    if name in LAYERS:
        layer = LAYERS[name]()
        if name in MIXES:
            found["Keras, by batch"] = theirs(layer, name, True, images, count)
        else:
            found["Keras, by image"] = theirs(layer, name, False, images, count)
            if draws_for_each(layer, images):
                found["Keras, by batch"] = theirs(layer, name, True, images, count)
    return found


def main() -> None:
    parser = options(__doc__)
    names = [*OPERATIONS, *MIXES]
    parser.add_argument("names", nargs="*", metavar="operation", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each round")
    chosen = parse(parser, rounds=3, seconds=0.3)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (64, chosen.size, chosen.size, 3), np.uint8))
    for name in chosen.names or names:
        sets: dict[str, Any] = {way: partial(speed, found) for way, found in ways(name, images, 100 * BATCH).items()}
        sets |= {way: partial(alone, change, images.numpy()) for way, change in others(name).items()}
        found = rounds({way: partial(run, seconds=chosen.seconds) for way, run in sets.items()}, chosen.rounds)
        measured = {way: Found(speeds, peak_mb()) for way, speeds in found.items()}
        for peer in ("Keras", "torchvision", "albumentations"):
            best = max(
                (way for way in measured if way.startswith(peer)), key=lambda w: measured[w].middle, default=None
            )
            if best:
                tell(replace(versus(name, measured, best, GOALS.get((name, peer), "")), peer=peer))
        if len(measured) == 1:
            tell(Row(name, measured["ours"].middle, peak_mb=peak_mb()))


if __name__ == "__main__":
    main()
