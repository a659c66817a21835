"""Measured: training steps a second on one accelerator, Keras on JAX (as `train.backend: jax`) beside PyTorch.

    python benchmarks/gpu.py                                       three networks, 224 px, batch 128: 15 minutes or less
    python benchmarks/gpu.py --networks densenet121 --sizes 224 256 --batches 64 256
    python benchmarks/gpu.py --quick                               a network of two layers: does it run at all?

Needs NumPy, OpenCV, and Keras with JAX, or PyTorch, or both: a side that is not installed is left out, and said so.
Each side is a process of its own. Both hold one batch of noise on the device and train in bfloat16 with float32 weights
and Adam: Keras by `fit` on compiled steps, PyTorch by `torch.compile` (channels_last, fused Adam). After the steps that
compile, rounds are timed until the device is done; told is the median round. The weights are random.

The share of the peak counts 2 operations for each multiplication of convolutions and dense layers, three times (forward
and, twice as much, backward), against the peak of NVIDIA's data sheets, dense. PyTorch's ResNet50 has 6 % more of them
than Keras's, whose blocks halve the map one layer earlier. `input` is what this project's loader gives on the machine's
processor, flipped and turned (where pydantic and PyYAML are installed): below the rate of the steps it is the limit.
"""

import argparse
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("densenet121", "resnet50", "mobilenetv2")
CLASSES, PASSES = 10, 3
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165}
NEEDED = {"jax": ("keras", "jax"), "torch": ("torch",)}


def peak_of(device: str) -> float | None:
    """TFLOP/s in bfloat16 of a device, by its name."""
    return next((float(peak) for name, peak in PEAKS.items() if name in device), None)


def rate(train: Callable[[int], None], images: int, steps: int, rounds: int) -> tuple[float, float]:
    """Images a second of the median round, and seconds of compiling; `train(n)` returns when n steps are done."""
    start = time.perf_counter()
    train(3)  # compiles
    compiled, seconds = time.perf_counter() - start, []
    for _ in range(rounds):
        start = time.perf_counter()
        train(steps)
        seconds.append(time.perf_counter() - start)
    return images * steps / statistics.median(seconds), compiled


def keras_products(model: Any) -> int:
    """Multiplications of one image's forward pass."""
    found = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            out = layer.output.shape[1:-1] if len(layer.output.shape) == 4 else ()
            found += math.prod(kernel.shape) * math.prod(out)  # of a depthwise kernel too: (k, k, channels, 1)
    return found


def on_jax(name: str, size: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    import jax
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    pixels = keras.Input((size, size, 3))
    if name == "tiny":
        x = keras.layers.Conv2D(8, 3, strides=2)(pixels)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    else:
        make = {"densenet121": "DenseNet121", "resnet50": "ResNet50", "mobilenetv2": "MobileNetV2"}[name]
        x = getattr(keras.applications, make)(include_top=False, weights=None, input_tensor=pixels).output
    x = keras.layers.Dense(CLASSES, activation="softmax", dtype="float32")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(pixels, x)
    model.compile(keras.optimizers.Adam(), "categorical_crossentropy", jit_compile=True)
    rng = np.random.default_rng(0)
    images = jax.device_put(rng.normal(size=(batch, size, size, 3)).astype(np.float32))
    targets = jax.device_put(np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)])

    class Same(keras.utils.PyDataset):
        """One batch, again and again."""

        num_batches = None

        def __getitem__(self, number: int) -> Any:
            return images, targets

    def train(n: int) -> None:
        model.fit(Same(), steps_per_epoch=n, epochs=1, verbose=0)
        jax.block_until_ready([variable.value for variable in model.trainable_variables])

    found, compiled = rate(train, batch, steps, rounds)
    device = jax.devices()[0]
    used = (device.memory_stats() or {}).get("peak_bytes_in_use")
    versions = f"Keras {keras.__version__}, JAX {jax.__version__}"
    return {"rate": found, "compiled": compiled, "products": keras_products(model), "memory": used,
            "device": device.device_kind, "versions": versions}  # fmt: skip


def torch_network(name: str) -> Any:
    from torch import nn, relu

    if name == "tiny":
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )
    sys.path.insert(0, str(ROOT / "tests"))
    import torch_networks as networks

    class Classifier(nn.Module):
        """Features, the mean of their map, and the last layer."""

        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            maps = self.network.features(x)
            maps = relu(maps) if name == "densenet121" else maps
            return (self.network.fc if name == "resnet50" else self.network.classifier)(maps.mean((2, 3)))

    made = {"densenet121": networks.DenseNet121, "mobilenetv2": networks.MobileNetV2}
    return Classifier(networks.ResNet(networks.Bottleneck) if name == "resnet50" else made[name]())


def torch_products(model: Any, images: Any) -> int:
    """Multiplications of one image's forward pass."""
    import torch

    found = [0]

    def count(layer: Any, _: Any, output: Any) -> None:
        found[0] += layer.weight.numel() * math.prod(output.shape[2:])

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return found[0]


def on_torch(name: str, size: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    model = torch_network(name).to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    targets = torch.randint(0, CLASSES, (batch,), device=device)
    products = torch_products(model, images[:1])
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), fused=device == "cuda")
    step_of = model if name == "tiny" else torch.compile(model)

    def train(n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(step_of(images), targets)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    found, compiled = rate(train, batch, steps, rounds)
    told = {"rate": found, "compiled": compiled, "products": products, "memory": None, "device": "cpu"}
    if device == "cuda":
        told |= {"memory": torch.cuda.max_memory_allocated(), "device": torch.cuda.get_device_name()}
    return {**told, "versions": f"PyTorch {torch.__version__}"}


def on_input(size: int, batch: int, steps: int) -> float:
    """Images a second from the uint8 array to batches, by the project's loader for JAX."""
    from biopsy.core.sections.train import Augment
    from biopsy.training.inputs.batches import training_set
    from biopsy.training.inputs.loader import ImageStore, training_items

    augment, targets = Augment(every={"flip": True, "rot90": True}), np.arange(2 * batch) % 2
    images = np.random.default_rng(0).integers(0, 256, (2 * batch, size, size, 3)).astype(np.uint8)
    items = training_items(targets, augment, "binary")
    batches = iter(
        training_set(
            ImageStore.whole(images), items, augment, "binary",
            classes=2, batch=batch, seed=0, epochs=range(-(-(steps + 1) // 2)),
        )
    )  # fmt: skip
    next(batches)
    start = time.perf_counter()
    seen = sum(len(given) for given, _ in batches)
    return seen / (time.perf_counter() - start)


def one(side: str, name: str, size: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Measure one side in a process of its own; say what it printed where it fails."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                   "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}  # fmt: skip
    asked = [side, name, *map(str, (size, batch, steps, rounds))]
    done = subprocess.run([sys.executable, __file__, "--side", *asked], env=environment, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it was killed"])[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row(side: str, found: dict[str, Any], batch: int) -> str:
    if "error" in found:
        return f"  {side:6} failed: {found['error']}"
    peak = peak_of(found["device"])
    done = found["rate"] * found["products"] * 2 * PASSES / 1e12
    share = f"{done / peak:6.1%} of the peak" if peak else "no peak known"
    memory = f"{found['memory'] / 1e9:5.1f} GB" if found["memory"] else "     -"
    return (
        f"  {side:6} {found['rate']:9.1f} images/s  {1e3 * batch / found['rate']:8.1f} ms a step  {done:7.2f} TFLOP/s  "
        f"{share}  {memory}  compiled in {found['compiled']:.0f} s  ({found['versions']}; {found['device']})"
    )


def installed(sides: list[str]) -> list[str]:
    """Leave out the sides whose packages are not there, and say so."""
    lacking = {side: [name for name in NEEDED[side] if importlib.util.find_spec(name) is None] for side in sides}
    for side, names in lacking.items():
        if names:
            print(f"{side} is left out: not installed: {', '.join(names)}")
    return [side for side in sides if not lacking[side]]


def measure(chosen: argparse.Namespace, sides: list[str]) -> list[dict[str, Any]]:
    """Measure all that was chosen, and print it as it comes."""
    steps, rounds, told = chosen.steps, chosen.rounds, []
    for size, name, batch in itertools.product(chosen.sizes, chosen.networks, chosen.batches):
        print(f"{name}, {size} px, batch {batch}", flush=True)
        found = {side: one(side, name, size, batch, steps, rounds) for side in sides}
        for side in sides:
            print(row(side, found[side], batch), flush=True)
            told.append({"network": name, "size": size, "batch": batch, "side": side, **found[side]})
        rates = [found[side]["rate"] for side in NEEDED if "rate" in found.get(side, {})]
        if len(rates) == 2:
            print(f"  Keras on JAX trains at {rates[0] / rates[1]:.2f} of PyTorch's rate", flush=True)
    if "jax" in sides and all(importlib.util.find_spec(package) for package in ("cv2", "pydantic", "yaml")):
        for size in chosen.sizes:
            given = one("input", "-", size, chosen.batches[0], steps, rounds)
            print(f"input, {size} px: " + (f"{given['rate']:.0f} images/s" if "rate" in given else given["error"]))
            told.append({"size": size, "side": "input", **given})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[224])
    parser.add_argument("--batches", nargs="+", type=int, default=[128])
    parser.add_argument("--steps", type=int, default=30, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", default=list(NEEDED), choices=list(NEEDED))
    parser.add_argument("--quick", action="store_true", help="two layers, 32 px, a few steps")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--side", nargs=6, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        side, name, *numbers = chosen.side
        if side == "input":
            print(json.dumps({"rate": on_input(*map(int, numbers[:3]))}))
        else:
            print(json.dumps({"jax": on_jax, "torch": on_torch}[side](name, *map(int, numbers))))
        return
    if chosen.quick:
        chosen.networks, chosen.sizes, chosen.batches, chosen.steps, chosen.rounds = ["tiny"], [32], [8], 3, 2
    told = measure(chosen, installed(chosen.sides))
    if chosen.json:
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
