"""Claim: an exported model answers several times as fast as `model.predict`, and a folder keeps its engine busy.

    python benchmarks/inference.py      MobileNetV2 and DenseNet121, about 12 minutes

    ours     the file of `biopsy export`, in ONNX Runtime
    int8     the file of `biopsy export --int8`
    OpenVINO the file of `biopsy export --format openvino`, with its floats, and in bfloat16 where the processor has it
    Keras    `model.predict` of the same model, the same images, one or 64 of them

Weights are random, which has no bearing on the time; batch norms know the images, so that answers differ and 'unlike
Keras' means something. `predict`, the command, gets PNGs of 700x460; of a folder counts what 4n images take more than
n, so that its start does not. 'engine and decoding' is what the cores can do if each image costs what the network and
its preparation alone cost.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from step import has_bf16

from measure import Row, Run, compare, options, parse, ratio, rounds, tell, timed, versus, work

NETWORKS = {"mobilenetv2": 224, "densenet121": 256}
MANY, PARITY, APART = 64, 1e-4, 0.5
EXACT = ("ours", "OpenVINO")
WAYS = ("make", "ours", "int8", "Keras", "OpenVINO", "OpenVINO bf16")
OPENVINO = WAYS[4 : 6 if has_bf16() else 5] if find_spec("openvino") else ()  # those that can be measured here
FILES = {"ours": "model.onnx", "int8": "int8.onnx", "OpenVINO": "model.xml", "OpenVINO bf16": "model.xml"}


def make(folder: Path, name: str) -> None:
    """Write `model.keras`, `model.onnx`, `int8.onnx` and what Keras says of some images; in a process of its own."""
    from biopsy.core.labels import Labels
    from biopsy.core.params import parse_params
    from biopsy.core.sections.data import Resize
    from biopsy.images.preparation.record import Preparation
    from biopsy.networks.backend import keras, seed_everything
    from biopsy.networks.build import build_model
    from biopsy.networks.model_file import Card, save_model
    from biopsy.serving.export.onnx_graph import convert
    from biopsy.serving.export.quantise import quantised
    from biopsy.serving.onnx_metadata import seal
    from biopsy.tables.labels.scheme import LabelScheme

    seed_everything(0)
    size, head = NETWORKS[name], {"feature_norm": False, "units": 0, "unit_norm": False}
    section = parse_params({"model": {"weights": "none", "head": head}}).model
    section = section.model_copy(update={"backbone": name, "weights": "none"})
    model, images = build_model(section, size, 2), images_of(size, MANY).astype(np.float32)
    see(model, images)
    tasks = {"binary": {"column": None, "classes": ["a", "b"]}}
    card = Card(
        task="binary", protocol="case", labels=LabelScheme.of(Labels.model_validate({"name": "x", "tasks": tasks})),
        preparation=Preparation(max_pixels=1_000_000, resize=Resize(size=size)), preprocessing="", threshold=0.5,
        synthetic=True, backbone_weights_sha256=None, data={}, params={}, keras=keras.__version__,
    )  # fmt: skip
    save_model(model, folder, card)
    facts = {"card": card.model_dump(mode="json"), "notice": "", "figures": None}
    network = convert(model, card)
    (folder / FILES["ours"]).write_bytes(seal(network, facts))
    (folder / FILES["int8"]).write_bytes(seal(quantised(network, iter([images_of(size, 16)[:, None]]), card), facts))
    np.save(folder / "keras.npy", model.predict(images, verbose=0))
    if OPENVINO:
        from biopsy.serving.export.runtimes import write_openvino

        write_openvino((folder / FILES["ours"]).read_bytes(), folder / FILES["OpenVINO"])


def see(model: Any, images: np.ndarray) -> None:
    """Give batch norms the statistics of images: without, random weights answer every image alike."""
    from biopsy.networks.backend import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


def images_of(size: int, count: int) -> np.ndarray:
    """Draw images (count, size, size, 3) uint8 of coarse and fine noise."""
    import cv2

    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 250, (count, 12, 16, 3), dtype=np.uint8)
    smooth = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in coarse])
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def parity(name: str, told: np.ndarray, known: np.ndarray, goal: str = f"<={PARITY}") -> list[Row]:
    """Make the row of how far answers (n, 1) are from Keras'; none where answers to all images are much the same."""
    if (apart := float(np.ptp(known))) < APART:
        print(f"{name}, unlike Keras: left out; the answers to all images lie within {apart:.2g}")
        return []
    unlike = float(np.abs(told - known).max())
    return [Row(f"{name}, unlike Keras", unlike, "", "range", apart, goal=goal)]


def prepare(way: str, folder: Path, name: str, count: int) -> Callable[[], float]:
    """Load a model; return what asks it about `count` images for two seconds, and gives images/s."""
    images = images_of(NETWORKS[name], count)
    if way in FILES:
        ask = engine(folder / FILES[way], "bf16" in way)
    else:
        from biopsy.networks.model_file import load_model

        model, data = load_model(folder)[0], images.astype(np.float32)
        ask, images = partial(model.predict, verbose=0), data

    def run() -> float:
        start, done = time.perf_counter(), 0
        while (taken := time.perf_counter() - start) < 2 or not done:
            for at in range(0, count, 32):
                done += len(ask(images[at : at + 32]))
        return done / taken

    return run


def engine(file: Path, bf16: bool = False) -> Callable[[np.ndarray], Any]:
    """Load an exported file; return what asks it about images (n, size, size, 3)."""
    if file.suffix == ".xml":
        from biopsy.serving.export.runtimes import open_openvino

        return open_openvino(file, "bf16" if bf16 else "f32")

    from biopsy.serving.onnx_file import load_network

    network = load_network(file)[0]
    return lambda images: network(images[:, None])


def preparing(model: Path, files: list[Path]) -> float:
    """Decode and prepare files as `predict` does, in as many threads as cores; return images/s."""
    from biopsy.serving.decoding import prepare_image
    from biopsy.serving.onnx_file import open_file

    start, preparation = time.perf_counter(), open_file(model)[2].preparation
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = sum(1 for _ in pool.map(lambda file: prepare_image(file, preparation, hashed=False), files))
    return done / (time.perf_counter() - start)


def write_pngs(folder: Path, count: int) -> None:
    """Write PNGs of 700x460 pixels as `resize.py` draws them; after 50 they come again under other names."""
    from resize import draw

    draw(folder, min(count, 50))
    first = sorted(folder.glob("*.png"))
    for number in range(50, count):
        (folder / f"{number:05}.png").hardlink_to(first[number % 50])


def predict(images: Path, model: Path) -> Run:
    return timed(sys.executable, "-m", "biopsy.cli", "predict", images, "--model", model, "--out", images / "out.csv")


def folder_rate(model: Path, few: Path, many: Path, runs: list[Run]) -> float:
    """Predict two folders of n and 4n images; return images/s of the difference, and keep both runs."""
    one, four = predict(few, model), predict(many, model)
    runs += [one, four]
    return (len(list(many.glob("*.png"))) - len(list(few.glob("*.png")))) / (four.seconds - one.seconds)


def measure(name: str, folder: Path, count: int, images: int) -> None:
    """Measure one network whose files are in `folder`."""
    for squares in (1, MANY):
        run = (sys.executable, __file__, name, "--folder", folder, "--count", str(squares), "--way")
        what = f"{name}, {'one image' if squares == 1 else 'batches'}"
        goal, lower = (">=4", "") if squares == 1 else (">=1.8", ">=3.5")
        for group in filter(None, (("ours", "int8"), OPENVINO)):  # threads of two engines would be in each other's way
            found = compare({way: [*run, way] for way in (*group, "Keras")}, count)
            for way in group:
                named = what if way == "ours" else f"{what}, {way}"
                tell(versus(named, found, "Keras", goal if way in EXACT else lower, ours=way))
    few, many, single = (folder / part for part in ("few", "many", "single"))
    for part, number in ((few, images), (many, 4 * images), (single, 1)):
        part.mkdir()
        write_pngs(part, number)
    starts = [predict(single, folder / "model.onnx") for _ in range(count + 1)][1:]
    seconds = statistics.median(start.seconds for start in starts)
    tell(Row(f"`predict` one image, {name}", seconds, "s", goal="<=2", peak_mb=starts[0].peak_mb))
    runs: list[Run] = []
    model, files = folder / FILES["ours"], sorted(many.glob("*.png"))
    ways = {
        "predict": partial(folder_rate, model, few, many, runs),
        "engine": prepare("ours", folder, name, MANY),
        "decoding": partial(preparing, model, files),
    }
    told = rounds(ways, count)
    told["both"] = [1 / (1 / e + 1 / d) for e, d in zip(told["engine"], told["decoding"], strict=True)]
    middle = {way: statistics.median(figures) for way, figures in told.items()}
    peaks = [statistics.median(run.peak_mb for run in runs[part::2]) for part in (0, 1)]
    what = f"`predict` {4 * images:,} images"
    for peer, goal in (("engine", ">=0.9"), ("both", ">=0.9")):
        share = ratio(told["predict"], told[peer])
        named = {"engine": "engine", "both": "engine and decoding"}[peer]
        tell(Row(what, middle["predict"], "/s", named, middle[peer], share, goal, peaks[1]))
    tell(
        Row(
            f"its memory, {images:,} images {peaks[0]:.0f}",
            peaks[1],
            "MB",
            "",
            None,
            None,
            f"<={1.05 * peaks[0]:.0f}",
        )
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=2500, help="a quarter of the folder; of DenseNet121 a tenth of it"
    )
    parser.add_argument("--folder", type=Path, help="where a way finds the model")
    parser.add_argument("--count", type=int, default=1, help="images that a way is asked about")
    parser.add_argument("--way", choices=WAYS)
    chosen = parse(parser, rounds=3, images=64)
    if chosen.way == "make":
        return make(chosen.folder, chosen.networks[0])
    if chosen.way:
        return work(lambda: prepare(chosen.way, chosen.folder, chosen.networks[0], chosen.count))
    for name in chosen.networks or list(NETWORKS)[: 1 if chosen.quick else None]:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            timed(sys.executable, __file__, name, "--folder", folder, "--way", "make")
            images, known = images_of(NETWORKS[name], MANY), np.load(folder / "keras.npy")
            for way in ("ours", *OPENVINO):
                told = engine(folder / FILES[way], "bf16" in way)(images)[:, 1:]
                what = name if way == "ours" else f"{name}, {way}"
                tell(*parity(what, told, known, f"<={PARITY}" if way in EXACT else ""))
            measure(name, folder, chosen.rounds, chosen.images // (10 if name == "densenet121" else 1))
    return None


if __name__ == "__main__":
    main()
