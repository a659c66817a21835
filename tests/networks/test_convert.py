"""PyTorch's weights give PyTorch's features in Keras; a checkpoint is data, whatever else it holds.

Where PyTorch is not installed, what it answered to the same weights and pixels stands in GOLDEN.
"""

import importlib.util
import os
import pickle
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.numpy as safetensors

from biopsy.cli import command
from biopsy.core.errors import MachineError, ParamsError, SourceError
from biopsy.core.files import sha256
from biopsy.core.sections.model import Head, Model
from biopsy.networks.backbones.mednext import block
from biopsy.networks.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from biopsy.networks.backend import keras
from biopsy.networks.build import build_model
from biopsy.networks.checkpoint import read_checkpoint
from biopsy.networks.convert import ARCHITECTURES, convert_weights
from biopsy.networks.features import split_model
from conftest import ROOT

needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="PyTorch is not installed: pip install -e .[convert]"
)
LINEAR = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False, dropout=0)
SIZE = 75  # odd, so that padding on one side and on both differ in every way
# PyTorch 2.13: mean of all pooled features, and the first four of them, for `weights_of(name)` and `pixels()`.
GOLDEN = {
    "densenet121": (0.00400, -0.18351, 0.03940, -0.21579, 0.04033),
    "mobilenet_v2": (0.06531, 0.00460, 0.24726, 0.09349, 0.00000),
    "resnet34": (0.22705, 0.07693, 0.10508, 0.07583, 0.27549),
    "resnet50": (0.19270, 0.00000, 0.10346, 0.08173, 0.20564),
}


def pixels() -> np.ndarray:
    """Two images, (2, SIZE, SIZE, 3), 0 to 255."""
    coarse = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
    return np.stack([cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for image in coarse])


def weights_of(architecture: str) -> dict[str, np.ndarray]:
    """A random state dict, batch norms too: fresh ones are all alike, and would hide an order that is wrong."""
    network, chosen, state = ARCHITECTURES[architecture].draw(), ARCHITECTURES[architecture], {}
    for layer in network.layers:
        if not layer.weights:
            continue
        module = chosen.module(layer.name)
        rng = np.random.default_rng(zlib.crc32(module.encode()))
        shape = layer.weights[0].shape
        if isinstance(layer, keras.layers.BatchNormalization):
            variance = 10 ** rng.uniform(-5, 0, shape)  # many lie below Keras's epsilon of 1e-3
            values = {"weight": rng.uniform(0.3, 0.7, shape) * np.sqrt(variance), "bias": rng.uniform(-0.2, 0.2, shape)}
            values |= {"running_mean": rng.uniform(-0.2, 0.2, shape), "running_var": variance}
            state[f"{module}.num_batches_tracked"] = np.array(7)
        else:
            order = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)
            shape = tuple(shape[axis] for axis in order)
            values = {"weight": rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)}
        state |= {f"{module}.{part}": value.astype(np.float32) for part, value in values.items()}
    return state


def extractor(backbone: str, file: Path) -> Any:
    """The network from pixels to pooled features, (n, c), as those that a frozen backbone stores."""
    model = build_model(Model(backbone=backbone, weights=str(file), trainable="none", head=LINEAR), SIZE, 8)
    return split_model(model)[0]


def torch_features(network: Any, state: dict[str, np.ndarray], images: np.ndarray, unit: bool = False) -> np.ndarray:
    """The same by PyTorch."""
    import torch

    lacking, unknown = network.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    assert not unknown
    assert all(name.startswith(("fc.", "classifier.")) for name in lacking)
    x = images / 255 if unit else (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    with torch.no_grad():
        network = network.eval()
        # The registry's DenseNet121 is cut before its last norm.
        take = network.features[:-1] if hasattr(network.features, "norm5") else network.features
        found = take(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32))
    return found.mean((2, 3)).numpy()


def torch_network(architecture: str) -> Any:
    import torch_networks as nets

    makers = {"densenet121": nets.DenseNet121, "mobilenet_v2": nets.MobileNetV2}
    if architecture in makers:
        return makers[architecture]()
    return nets.ResNet({"resnet34": nets.Basic, "resnet50": nets.Bottleneck}[architecture])


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def converted(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, np.ndarray], Any]:
    state, folder = weights_of(request.param), tmp_path_factory.mktemp(request.param)
    # torchvision's oldest DenseNet files say `norm.1` for `norm1`; training on several GPUs puts `module.` before all.
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", f"module.{k}"): v for k, v in state.items()}
    assert request.param != "densenet121" or "module.features.denseblock1.denselayer1.norm.1.weight" in old
    safetensors.save_file(old, folder / "in.safetensors")
    convert_weights(folder / "in.safetensors", folder / "out.weights.h5", request.param)
    return request.param, state, extractor(ARCHITECTURES[request.param].backbone, folder / "out.weights.h5")


def test_features_are_those_that_pytorch_gave(converted: tuple[str, Any, Any]) -> None:
    architecture, _, extract = converted
    found = np.asarray(extract(pixels().astype(np.float32)))
    np.testing.assert_allclose([found.mean(), *found[0, :4]], GOLDEN[architecture], atol=1e-4)


@needs_torch
def test_features_are_those_that_pytorch_gives(converted: tuple[str, Any, Any]) -> None:
    """On real images where there are some."""
    architecture, state, extract = converted
    folder = Path(os.environ.get("BIOPSY_REAL_DATA", ROOT.parent / "shared" / "breakhis"))
    real = [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.rglob("*.png"))[:2]]
    images = np.stack([cv2.resize(image, (SIZE, SIZE)) for image in real]) if real else pixels()
    expected = torch_features(torch_network(architecture), state, images)
    np.testing.assert_allclose(extract(images.astype(np.float32)), expected, atol=1e-4)
    assert expected.std() > 0.05  # features that are all alike would show nothing


@needs_torch
def test_the_encoder_of_cerberus_is_found_in_its_checkpoint(tmp_path: Path) -> None:
    import torch

    import torch_networks

    state = weights_of("resnet34")
    whole = {f"backbone.{name}": torch.tensor(value) for name, value in state.items()}
    whole |= {"conv_map.weight": torch.zeros(256, 512, 1, 1), "decoder_head.Gland.0.conv1.weight": torch.zeros(2)}
    torch.save({"desc": whole, "epoch": 3}, tmp_path / "weights.tar")
    said = convert_weights(tmp_path / "weights.tar", tmp_path / "out.weights.h5", "resnet34")
    assert "below 'desc.backbone.'" in said
    assert "left out 2: desc.conv_map.weight, desc.decoder_head.Gland.0.conv1.weight" in said
    network = torch_networks.ResNet(torch_networks.Basic, stem_stride=1)
    expected = torch_features(network, state, pixels(), unit=True)
    np.testing.assert_allclose(extractor("cerberus", tmp_path / "out.weights.h5")(pixels()), expected, atol=1e-4)


@needs_torch
@pytest.mark.parametrize("stride", [1, 2])
def test_a_mednext_block_is_the_authors(stride: int) -> None:
    import torch

    from torch_networks import MedNeXtBlock

    torch.manual_seed(0)
    source, x = MedNeXtBlock(8, 8 * stride, 3, 5, stride), np.random.default_rng(0).normal(size=(2, 9, 9, 8))
    entry = keras.Input((9, 9, 8))
    model = keras.Model(entry, block(entry, 8 * stride, 3, 5, stride, "b"))
    parts = {"depthwise": source.depthwise, "norm": source.norm, "expand": source.expand, "compress": source.compress}
    parts |= {"shortcut": source.shortcut} if stride > 1 else {}
    for name, part in parts.items():
        torch.nn.init.normal_(part.bias)
        kernel, bias = part.weight.detach().numpy(), part.bias.detach().numpy()
        if kernel.ndim == 4:
            kernel = kernel.transpose((2, 3, 0, 1) if name == "depthwise" else (2, 3, 1, 0))
        model.get_layer(f"b_{name}").set_weights([kernel, bias])
    with torch.no_grad():
        expected = source(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@needs_torch
@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_pickle_that_tries_to_execute_is_refused_and_not_run(tmp_path: Path, container: str) -> None:
    import torch

    file, trap = tmp_path / "bad.pth", tmp_path / "sprung"
    content = {"conv1.weight": torch.zeros(64, 3, 7, 7), "x": Trap(trap)}
    if container == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(
        SourceError, match=r"bad\.pth is rejected: it holds .* which would be executed on reading"
    ) as error:
        convert_weights(file, tmp_path / "out.weights.h5", "resnet34")
    assert not trap.exists()
    assert "weights_only" not in str(error.value)  # PyTorch's advice to switch the guard off
    if container == "torch":
        assert "posix.mkdir" in str(error.value)


def save(path: Path, state: dict[str, np.ndarray]) -> Path:
    safetensors.save_file(state, path)
    return path


def test_what_cannot_be_converted_says_why(tmp_path: Path) -> None:
    state = weights_of("mobilenet_v2")
    name = "features.0.0.weight"
    wrong = {**state, name: np.zeros((32, 1, 3, 3), np.float32)}
    bad = {**state, name: np.full((32, 3, 3, 3), np.nan, np.float32)}
    (tmp_path / "junk.pth").write_bytes(b"hello")
    (tmp_path / "junk.safetensors").write_bytes(b"hello")
    cases: list[tuple[Path, str, str, str]] = [
        (save(tmp_path / "a.safetensors", state), "mobilenetv2", "o.weights.h5", "Did you mean 'mobilenet_v2'"),
        (tmp_path / "a.safetensors", "mobilenet_v2", "o.h5", r"must end in \.weights\.h5"),
        (
            tmp_path / "a.safetensors",
            "resnet34",
            "o.weights.h5",
            r"not of resnet34: of 180 .* lacks 180.* conv1\.weight",
        ),
        (save(tmp_path / "b.safetensors", wrong), "mobilenet_v2", "o.weights.h5", r"\(3, 3, 1, 32\).*\(3, 3, 3, 32\)"),
        (save(tmp_path / "c.safetensors", bad), "mobilenet_v2", "o.weights.h5", r"features\.0\.0\.weight.*not finite"),
        (save(tmp_path / "d.safetensors", {}), "mobilenet_v2", "o.weights.h5", "has no tensors"),
        (tmp_path / "none.pth", "mobilenet_v2", "o.weights.h5", "does not exist"),
        (tmp_path / "junk.safetensors", "mobilenet_v2", "o.weights.h5", "is not a safetensors file"),
    ]
    if importlib.util.find_spec("torch"):
        cases.append((tmp_path / "junk.pth", "mobilenet_v2", "o.weights.h5", "is not a checkpoint of PyTorch"))
    for checkpoint, architecture, out, words in cases:
        with pytest.raises((ParamsError, SourceError), match=words):
            convert_weights(checkpoint, tmp_path / out, architecture)
    assert not list(tmp_path.glob("*.h5"))


def test_without_pytorch_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for name, words in (("a.pth", r"pip install torch.*\.safetensors"), ("a.safetensors", "pip install safetensors")):
        (tmp_path / name).touch()
        with pytest.raises(MachineError, match=words):
            read_checkpoint(tmp_path / name)


def test_the_command_writes_the_file_and_says_how_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in.safetensors", weights_of("mobilenet_v2"))
    for out in ("one.weights.h5", "two.weights.h5"):
        command(["convert-weights", "in.safetensors", out, "--architecture", "mobilenet_v2"])
        said, digest = capsys.readouterr().out, sha256(tmp_path / out)
        assert f"-S model.backbone=torch_mobilenetv2 -S model.weights={out} -S model.weights_sha256={digest}" in said
    assert sha256(tmp_path / "one.weights.h5") == sha256(tmp_path / "two.weights.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.safetensors", "one.weights.h5", "two.weights.h5"]
