"""Claim: a training step is as fast as that of stock Keras and of PyTorch.

    python benchmarks/step.py                        all networks, about 30 minutes on two cores
    python benchmarks/step.py densenet121            one of them: head, cnn_small, mobilenetv2, densenet121

Each way trains in a process of its own, in rounds that alternate; images/s of whole calls of `fit`, input included.

    ours     `compile_model`, and the training's data set: uint8 images in memory, equal seeds give equal bytes
    Keras    the same network, `compile` and `fit` of float32 arrays, without XLA, which is slower
    PyTorch  torchvision's network, channels_last
    torch.compile    the same, compiled; left out where it does not compile, as without a C++ compiler
    JAX              ours, as `train.backend: jax` does
    XLA              ours, compiled by TensorFlow's XLA, which Keras allows only without equal bytes for equal seeds

Nothing is augmented. bfloat16 is measured where the processor has instructions for it. `head` is that of a frozen
MobileNetV2 on features.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from measure import ROOT, compare, options, parse, ready, tell, tell_round, versus, wait_for_round, work


class Network(NamedTuple):
    """What is trained: the backbone, its section `model`, the side of its images, the batch, the batches of a round."""

    backbone: str
    model: dict[str, Any]
    size: int
    batch: int
    steps: int


REPORT = {"feature_norm": True, "units": 64, "dropout": 0.5, "unit_norm": True, "batch_norm": True}
LINEAR = {"feature_norm": False, "units": 0, "dropout": 0.2, "unit_norm": False, "batch_norm": True}
NETWORKS = {
    "head": Network("mobilenetv2", {"head": LINEAR, "trainable": "none"}, 32, 16, 100),
    "cnn_small": Network("cnn_small", {"head": {**LINEAR, "dropout": 0.1, "batch_norm": False}}, 96, 8, 40),
    "mobilenetv2": Network("mobilenetv2", {"head": LINEAR}, 224, 16, 6),
    "densenet121": Network("densenet121", {"head": REPORT}, 256, 16, 2),
}
COMPILE = "import torch; torch.compile(lambda x: 2 * x + 1)(torch.ones(3))"
SLOW = ("mobilenetv2", "densenet121")  # not in a quick run
WAYS = ("ours", "Keras", "PyTorch", "torch.compile", "JAX", "XLA")
GOALS = WAYS[1:4]  # that ours is to reach
WIDTH = 1280  # of MobileNetV2's features
EPOCHS = 100  # at most so many rounds
PRECISIONS = {"fp32": "float32", "bf16": "mixed_bfloat16"}


def has_bf16() -> bool:
    """Say whether the processor multiplies bfloat16."""
    info = Path("/proc/cpuinfo")
    return info.exists() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def drawn(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return noise for the steps of a round, (n, size, size, 3) uint8, and targets (n,)."""
    rng, n = np.random.default_rng(0), network.batch * network.steps
    return rng.integers(0, 256, (n, network.size, network.size, 3), np.uint8), rng.integers(0, 2, n)


def built(network: Network, precision: str, seeded: bool) -> tuple[Any, Any]:
    """Build our network and its parameters; stock Keras asks for no determinism."""
    from biopsy.core.params import parse_params
    from biopsy.networks.backend import keras, seed_everything
    from biopsy.networks.build import build_model

    if seeded:
        seed_everything(0)
    keras.config.set_dtype_policy(PRECISIONS[precision])
    train = {"epochs": 1000, "batch": network.batch, "class_weights": "none"}
    params = parse_params({"resize": {"size": network.size}, "train": train})
    section = parse_params({"model": {**network.model, "weights": "none"}}).model
    section = section.model_copy(update={"backbone": network.backbone})
    return build_model(section, network.size, 2), params


def on_features(model: Any) -> Any:
    from biopsy.networks.features import split_model

    return split_model(model)[1]


def epochs_as_rounds(images: int) -> Any:
    """Make a callback that takes each epoch of one call of `fit` for a round."""
    from biopsy.networks.backend import keras

    class Epochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            if not epoch:
                ready()
            wait_for_round()
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            tell_round(images / (time.perf_counter() - self.start))

    return Epochs()


def ours(network: Network, precision: str, head: bool, way: str = "ours") -> None:
    from biopsy.training.fit import compile_model
    from biopsy.training.inputs.features import FeatureFeed
    from biopsy.training.inputs.feed import PixelFeed
    from biopsy.training.inputs.loader import ImageStore, encode_targets, training_items
    from biopsy.training.light_steps import steps_at_once

    model, params = built(network, precision, seeded=way != "XLA")
    images, targets = drawn(network)
    items = training_items(targets, params.augment, "binary", None)
    feed: Any = PixelFeed(ImageStore.whole(images), items, targets[:0], params, "binary", 2, network.batch)
    if head:
        model, rng = on_features(model), np.random.default_rng(0)
        features = rng.random((8 * len(targets), WIDTH), np.float32)
        known = encode_targets(targets, 2)
        feed = FeatureFeed(features, known, features[:0], known[:0], 8, network.batch, 0)
    at_once = steps_at_once(model, params.train, network.batch, network.steps)
    compile_model(model, params.train, items.target, EPOCHS, network.steps, at_once)
    model.jit_compile = model.jit_compile or way == "XLA"
    model.fit(
        feed.train(range(EPOCHS)), steps_per_epoch=network.steps, epochs=EPOCHS, shuffle=False, verbose=0,
        callbacks=[epochs_as_rounds(len(targets))],
    )  # fmt: skip


def plain_keras(network: Network, precision: str, head: bool) -> None:
    from biopsy.networks.backend import keras

    model, _ = built(network, precision, seeded=False)
    images, targets = drawn(network)
    data = images.astype(np.float32)
    if head:
        model, data = on_features(model), np.random.default_rng(0).random((len(targets), WIDTH), np.float32)
    model.compile(keras.optimizers.Adam(1e-4), loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    callbacks = [epochs_as_rounds(len(targets))]
    model.fit(data, targets, batch_size=network.batch, epochs=EPOCHS, verbose=0, callbacks=callbacks)


def cannot_compile() -> str:
    """Say why `torch.compile` does not work here; empty: it does."""
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    return (done.stderr.strip() or f"code {done.returncode}").splitlines()[-1] if done.returncode else ""


def pytorch(network: Network, precision: str, head: bool, compiled: bool = False) -> None:
    import torch
    from torch import nn

    sys.path.insert(0, str(ROOT / "tests"))
    import torch_networks
    from biopsy.networks.backbones.cnn import FEWER

    images, targets = drawn(network)
    if head:
        body, width = nn.BatchNorm1d(WIDTH), WIDTH
        data = torch.from_numpy(np.random.default_rng(0).random((len(targets), WIDTH), np.float32))
    else:
        data = torch.from_numpy(images)
        if network.backbone == "cnn_small":
            blocks: list[Any] = []
            for block, (before, width) in enumerate(zip((3, *FEWER[:-1]), FEWER, strict=True)):
                kernel, stride = (3, 1) if block else (5, 2)
                conv = nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False)
                blocks += [conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            body = nn.Sequential(*blocks)
        else:
            named = {"densenet121": torch_networks.DenseNet121, "mobilenetv2": torch_networks.MobileNetV2}
            whole = named[network.backbone]()
            body, width = whole.features, 1024 if network.backbone == "densenet121" else WIDTH
        body = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(body, nn.Dropout(0.2), nn.Linear(width, 1)).to(memory_format=torch.channels_last)
    model.train()
    seeing = torch.compile(model) if compiled else model
    optimizer, loss_of = torch.optim.Adam(model.parameters(), 1e-4), nn.BCEWithLogitsLoss()
    truth = torch.from_numpy(targets.astype(np.float32))[:, None]

    def batches() -> Iterator[Any]:
        for rows in torch.randperm(len(data)).split(network.batch):
            seen = data[rows].float() if head else data[rows].permute(0, 3, 1, 2).float() / 127.5 - 1
            yield seen if head else seen.contiguous(memory_format=torch.channels_last), truth[rows]

    def run() -> float:
        start = time.perf_counter()
        for seen, wanted in batches():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                given = seeing(seen)
            loss_of(given.float(), wanted).backward()
            optimizer.step()
        return len(targets) / (time.perf_counter() - start)

    work(lambda: run)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["fp32", *["bf16"] * has_bf16()])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help="one way, a round for each line of the standard input")
    chosen = parse(parser, rounds=3)
    if chosen.way:
        (name,), (precision,) = chosen.networks, chosen.precisions
        if chosen.way == "JAX":
            os.environ["KERAS_BACKEND"] = "jax"
        makes: dict[str, Callable[..., None]] = {
            "Keras": plain_keras,
            "PyTorch": pytorch,
            "torch.compile": partial(pytorch, compiled=True),
        }
        make = makes.get(chosen.way, partial(ours, way=chosen.way))
        try:
            make(NETWORKS[name], precision, name == "head")
        except ModuleNotFoundError as error:
            ready(error.name)
        return
    groups = [list(GOALS[:2]), [GOALS[2], "JAX"], list(WAYS[5:])]  # three large networks at a time have room in 16 GB
    if reason := cannot_compile():
        print(f"{GOALS[2]}: left out; {reason}")
        del groups[1][0]
    for name in chosen.networks or [name for name in NETWORKS if not (chosen.quick and name in SLOW)]:
        for precision in chosen.precisions if name == "densenet121" else ["fp32"]:
            run = [sys.executable, __file__, name, "--precisions", precision, "--way"]
            what = name if name == "head" else f"{name} {precision}"
            for peers in groups:
                found = compare({way: [*run, way] for way in ("ours", *peers)}, chosen.rounds)
                tell(*(versus(what, found, peer, ">=1" if peer in GOALS else "") for peer in peers))


if __name__ == "__main__":
    main()
