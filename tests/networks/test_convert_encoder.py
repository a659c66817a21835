"""Encoders of timm become ONNX files: as close as floats are, normalised within, and with their terms."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopsy.cli import command
from biopsy.core.errors import MachineError, ParamsError, SourceError
from biopsy.core.files import sha256
from biopsy.networks import encoder_writer
from biopsy.networks.convert_encoder import convert_encoder
from biopsy.networks.encoder_file import EncoderFile
from model_hub import serving

needs_timm = pytest.mark.skipif(
    not (importlib.util.find_spec("torch") and importlib.util.find_spec("timm")),
    reason="PyTorch and timm are not installed: pip install -e .[timm]",
)
SIZE = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
CENTRE, SPREAD = (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)
TOKENS = {"img_size": SIZE, "patch_size": 16, "depth": 1, "num_heads": 2, "embed_dim": 16, "reg_tokens": 4,
          "mlp_ratio": 4.0, "global_pool": "", "init_values": 1e-5}  # fmt: skip


def seen(module: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """What a module gives for PIXELS, which are normalised here."""
    import torch

    images = ((PIXELS / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        return module.eval()(torch.from_numpy(images)).numpy()


def repository() -> tuple[dict[str, bytes], Any]:
    """A small network like Virchow2, as it lies on the hub; and the network."""
    import safetensors.torch
    import timm
    import torch

    torch.manual_seed(0)
    module = timm.create_model(
        "vit_small_patch16_224", num_classes=0, **TOKENS, mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU
    )
    about = {"mean": CENTRE, "std": SPREAD, "input_size": [3, SIZE, SIZE], "num_classes": 0}
    config = {"architecture": "vit_small_patch16_224", "num_classes": 0, "model_args": TOKENS, "pretrained_cfg": about}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors.torch.save(module.state_dict()),
    }, module


@needs_timm
def test_a_model_of_timm_becomes_a_file_that_takes_images_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm
    import torch

    torch.manual_seed(0)
    module, out = timm.create_model("tf_efficientnet_lite0", num_classes=0), tmp_path / "e.onnx"
    torch.save(module.state_dict(), tmp_path / "e.pth")
    given = ["--weights", str(tmp_path / "e.pth"), "--size", str(SIZE)]
    command(["convert-encoder", "tf_efficientnet_lite0", str(out), *given])
    told = capsys.readouterr().out
    assert f"SHA-256 {sha256(out)}" in told
    assert f"-S model.weights={out} -S resize.size={SIZE}" in told
    file = EncoderFile(out.read_bytes())
    assert (file.takes_uint8, file.channels_first, file.size, file.name) == (True, False, SIZE, None)
    expected = seen(module, (0.5,) * 3, (0.5,) * 3)
    np.testing.assert_allclose(file(PIXELS), expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(SourceError, match=r"e\.pth is not of resnet18: \d+ of its \d+ tensors are missing"):
        command(["convert-encoder", "resnet18", str(out), *given])
    with pytest.raises(ParamsError, match=r"no model 'tf_efficientnet_lite'.*Did you mean 'tf_efficientnet_lite"):
        command(["convert-encoder", "tf_efficientnet_lite", str(out)])


@needs_timm
@pytest.mark.parametrize("half", [False, True])
def test_an_encoder_of_pathology_comes_from_the_hub_with_its_recipe_and_its_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    import huggingface_hub

    files, module = repository()
    if half:
        count = sum(value.numel() for value in module.state_dict().values())
        monkeypatch.setattr(encoder_writer, "LARGEST", 3 * count)
    out = tmp_path / "e.onnx"
    with serving(monkeypatch) as hub:
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"  # read from the environment on import
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        hub.repositories["paige-ai/Virchow2"] = files
        told = convert_encoder("virchow2", out)
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(SourceError, match=r"timm cannot make hf-hub:MahmoodLab/UNI .*accept them.*set HF_TOKEN"):
            convert_encoder("hf-hub:MahmoodLab/UNI", out)
    assert "may not be passed on" in told
    assert told.endswith("-S model.encoder.name=virchow2")
    assert ("16-bit" in told) == half
    tokens = seen(module, CENTRE, SPREAD)
    expected = np.concatenate([tokens[:, 0], tokens[:, 5:].mean(1)], axis=1)
    file = EncoderFile(out.read_bytes())
    assert file.name == "virchow2"
    np.testing.assert_allclose(file(PIXELS), expected, atol=(1e-2 if half else 1e-4) * np.abs(expected).max())
    if half:
        return
    (folder := tmp_path / "copy").mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    first = out.read_bytes()
    convert_encoder("virchow2", out, folder)
    assert out.read_bytes() == first


def test_another_ending_and_missing_packages_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match=r"must end in \.onnx\. Got .*uni\.h5"):
        command(["convert-encoder", "uni", str(tmp_path / "uni.h5")])
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MachineError, match=r"has no package timm.*\.\[timm\]"):
        command(["convert-encoder", "uni", str(tmp_path / "uni.onnx")])
