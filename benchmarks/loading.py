"""Claim: from epoch 2 on, ours feeds at least 5 times as many images a second as ImageDataGenerator from files.

    python benchmarks/loading.py                    1,500 drawn images of 256 px, about 3 minutes on two cores
    python benchmarks/loading.py data/resized       the resized tree, or any folder of folders of PNGs of one size

Six ways to feed a training with mirrored and turned images, float32, in batches of 16, each in a process of its own,
in rounds that alternate; the ratio is the median over the rounds.

    array        all images as one float32 array, batches cut and turned with NumPy: the report's first way
    generator    ImageDataGenerator.flow_from_directory, in as many threads as cores (Keras itself takes one)
    tf.data      PNGs read and decoded in each epoch, in parallel
    torch, grain a memory map of the decoded images, in as many processes as cores, or threads
    ours         a memory map of the decoded images, made in the first epoch

Peak memory is the kernel's high-water mark of the process (VmHWM, Linux).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from measure import ROOT, Found, Row, options, parse, peak_mb, tell, versus

BATCH, SIZE = 16, 256
ASKED = 2000  # images a second from epoch 2 on, at least


def draw(folder: Path, images: int) -> None:
    """Write PNGs that weigh about what resized BreakHis images weigh (130 KB), in two folders."""
    rng = np.random.default_rng(0)
    for number in range(images):
        coarse = rng.integers(90, 250, (24, 24, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / "ab"[number % 2] / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), noisy, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def side(folder: Path) -> int:
    """Return the side of the images, in pixels."""
    with Image.open(next(folder.rglob("*.png"))) as image:
        return image.width


def turned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror and turn with NumPy."""
    image = np.rot90(image, int(rng.integers(4)))
    return image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]


def from_array(folder: Path, epochs: int) -> Iterator[int]:
    files = sorted(folder.rglob("*.png"))
    images = np.empty((len(files), side(folder), side(folder), 3), np.float32)
    for i, file in enumerate(files):
        images[i] = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    for epoch in range(epochs):
        rng = np.random.default_rng(epoch)
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            yield len(np.stack([turned(images[i], rng) for i in order[start : start + BATCH]]))


def from_generator(folder: Path, epochs: int) -> Iterator[int]:
    from biopsy.networks.backend import tf

    rng = np.random.default_rng(0)
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        horizontal_flip=True,
        vertical_flip=True,
        preprocessing_function=lambda image: np.rot90(image, int(rng.integers(4))),
    )
    batches = generator.flow_from_directory(
        folder, target_size=(side(folder),) * 2, batch_size=BATCH, class_mode="sparse"
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(epochs):
            for images, _ in pool.map(batches.__getitem__, range(len(batches))):
                yield len(images)
            batches.on_epoch_end()


def from_files(folder: Path, epochs: int) -> Iterator[int]:
    from biopsy.networks.backend import tf
    from biopsy.training.augment.pipeline import augment_image

    files = sorted(map(str, folder.rglob("*.png")))

    def load(number: Any, file: Any) -> Any:
        image = tf.ensure_shape(tf.io.decode_png(tf.io.read_file(file), 3), (None, None, 3))
        return augment_image(image, tf.stack([tf.zeros_like(number), number]), {"flip": True, "rot90": True})

    names = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=0)
    batches = names.enumerate().map(load, tf.data.AUTOTUNE).batch(BATCH).prefetch(2)
    for _ in range(epochs):
        yield from (len(images) for images in batches)


def from_ours(folder: Path, epochs: int) -> Iterator[int]:
    from biopsy.core.sections.train import Augment
    from biopsy.training.inputs.batches import training_set
    from biopsy.training.inputs.decoded import decode_once
    from biopsy.training.inputs.loader import ImageStore, training_items

    files = sorted(folder.rglob("*.png"))
    store = ImageStore.whole(decode_once(files, side(folder), 1, 0)).tiles()
    augment, targets = Augment(every={"flip": True, "rot90": True}), np.arange(len(files)) % 2
    items = training_items(targets, augment, "binary")
    batches = training_set(
        store, items, augment, "binary", classes=2, batch=BATCH, seed=0, epochs=range(epochs)
    )  # fmt: skip
    yield from (len(images) for images, _ in batches)


class MappedImages:
    """A memory map as PyTorch and grain read it: mirrored and turned with NumPy, by a draw of its index."""

    def __init__(self, path: Path, epoch: int = 0) -> None:
        self.images, self.epoch = np.load(path, mmap_mode="r"), epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        rng = np.random.default_rng((self.epoch, int(i)))
        return np.ascontiguousarray(turned(self.images[i], rng), np.float32)


def mapped(folder: Path) -> Path:
    """Decode all images into a memory map, in as many threads as cores."""
    files = sorted(folder.rglob("*.png"))
    path = Path(tempfile.mkdtemp()) / "images.npy"
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(files), side(folder), side(folder), 3))

    def decode(i: int) -> None:
        images[i] = cv2.imread(str(files[i]), cv2.IMREAD_COLOR_RGB)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(files))))
    images.flush()
    return path


def from_torch(folder: Path, epochs: int) -> Iterator[int]:
    from torch.utils.data import DataLoader

    path = mapped(folder)
    for epoch in range(epochs):
        images: Any = MappedImages(path, epoch)
        yield from (len(batch) for batch in DataLoader(images, BATCH, shuffle=True, num_workers=os.cpu_count() or 1))


def from_grain(folder: Path, epochs: int) -> Iterator[int]:
    import grain

    path = mapped(folder)
    for epoch in range(epochs):
        batches = grain.MapDataset.source(MappedImages(path, epoch)).shuffle(epoch).batch(BATCH)
        yield from (len(batch) for batch in batches.to_iter_dataset())


WAYS: dict[str, Callable[[Path, int], Iterator[int]]] = {
    "array": from_array,
    "generator": from_generator,
    "tf.data": from_files,
    "torch": from_torch,
    "grain": from_grain,
    "ours": from_ours,
}
GOALS = {"generator": ">=5", "tf.data": ">=3", "array": "", "torch": ">=1", "grain": ">=1"}  # of ours against each


def measure(way: str, folder: Path, epochs: int) -> dict[str, float]:
    """Feed some epochs in this process."""
    images = len(list(folder.rglob("*.png")))
    marks, seen = [time.perf_counter()], 0
    for count in WAYS[way](folder, epochs):
        seen += count
        if seen == images * len(marks):
            marks.append(time.perf_counter())
    if len(marks) != epochs + 1:
        raise RuntimeError(f"{way} fed {seen} images in place of {images * epochs}: the timing would lie")
    later = (marks[-1] - marks[1]) / (epochs - 1)
    return {"first": images / (marks[1] - marks[0]), "later": images / later, "peak": peak_mb()}


def in_a_process(way: str, folder: Path, epochs: int, cache: str) -> dict[str, float] | None:
    """Measure a way; None: its package is not installed."""
    command = [sys.executable, __file__, str(folder), "--way", way, "--epochs", str(epochs)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BIOPSY_CACHE": cache}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "ModuleNotFoundError" in result.stderr:
        return None
    if result.returncode:
        raise RuntimeError(result.stderr)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folders of PNGs of one size (default: drawn)")
    parser.add_argument("--images", type=int, default=1500, help="how many are drawn")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="this way alone")
    chosen = parse(parser, images=300, epochs=3)
    if chosen.way:
        print(json.dumps(measure(chosen.way, chosen.folder, chosen.epochs)))
        return
    with tempfile.TemporaryDirectory() as drawn:
        folder = chosen.folder or Path(drawn)
        if not chosen.folder:
            draw(folder, chosen.images)
        compare(folder, chosen.epochs, chosen.rounds)
        reread(folder, chosen.rounds)


def compare(folder: Path, epochs: int, rounds: int) -> None:
    """Time all ways in alternating rounds and tell the ratios of their later epochs."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for way, figures in found.items():
                if measured := in_a_process(way, folder, epochs, cache):
                    figures.append(measured)
    later = {way: Found([f["later"] for f in told], told[0]["peak"]) for way, told in found.items() if told}
    rate = later["ours"].middle
    tell(Row("later epochs", rate, "/s", "asked for", ASKED, rate / ASKED, ">=1", later["ours"].peak_mb))
    for peer, goal in GOALS.items():
        tell(versus("later epochs", later, peer, goal))


def reread(folder: Path, rounds: int) -> None:
    """Time how a training gets its pixels that decodes them, and one that finds them decoded."""
    from biopsy.training.inputs.decoded import decode_once

    files, size = sorted(folder.rglob("*.png")), side(folder)
    found: dict[str, list[float]] = {"decoding": [], "ours": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for rates in found.values():
                begun = time.perf_counter()
                decode_once(files, size, 1, 0, Path(cache))
                rates.append(len(files) / (time.perf_counter() - begun))
    tell(versus("decoded before", {way: Found(rates, peak_mb()) for way, rates in found.items()}, "decoding"))


if __name__ == "__main__":
    main()
