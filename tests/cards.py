"""A model card for tests of model files."""

from biopsy.core.sections import Resize
from biopsy.images.preparation.record import Preparation
from biopsy.networks.backend import keras
from biopsy.networks.model_file import Card

CARD = Card(
    task="multiclass", protocol="case", classes=list("abcdefgh"), preprocessing="x", threshold=0.5,
    preparation=Preparation(max_pixels=1, resize=Resize(size=32)), synthetic=True, backbone_weights_sha256=None,
    data={}, params={}, keras=keras.__version__,
)  # fmt: skip
