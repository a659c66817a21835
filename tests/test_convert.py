"""PyTorch's weights give PyTorch's features in Keras; a checkpoint is data, whatever else it holds."""

import pytest

from biopsy.sections import Head

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e .[convert]")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install -e .[convert]")

from torch_networks import Basic, Bottleneck, DenseNet121, MobileNetV2, ResNet  # noqa: E402

NETWORKS = {
    "resnet34": lambda: ResNet(Basic),
    "resnet50": lambda: ResNet(Bottleneck),
    "densenet121": DenseNet121,
    "mobilenet_v2": MobileNetV2,
}
LINEAR = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False, dropout=0)
