"""PyTorch's weights give PyTorch's features in Keras; a checkpoint is data, whatever else it holds."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.backend import keras
from biopsy.convert import ARCHITECTURES, convert_weights
from biopsy.errors import BiopsyError, ParamsError, SourceError
from biopsy.features import split_model
from biopsy.models.build import build_model, check_model
from biopsy.models.mednext import block
from biopsy.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from biopsy.sample import draw_sample
from biopsy.sections import Head, Model
from conftest import ROOT, assert_kind

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e .[convert]")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install -e .[convert]")

from torch_networks import Basic, Bottleneck, DenseNet121, MedNeXtBlock, MobileNetV2, ResNet, randomised  # noqa: E402

NETWORKS = {
    "resnet34": lambda: ResNet(Basic),
    "resnet50": lambda: ResNet(Bottleneck),
    "densenet121": DenseNet121,
    "mobilenet_v2": MobileNetV2,
}
LINEAR = Head(feature_norm=False, units=0, unit_norm=False, batch_norm=False, dropout=0)
