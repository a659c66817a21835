"""A model card for tests of model files."""

from biopsy.networks.backend import keras
from biopsy.networks.model_file import Card

CARD = Card(
    task="multiclass", protocol="case", classes=list("abcdefgh"), size=32, preprocessing="x", threshold=0.5,
    synthetic=True, backbone_weights_sha256=None, data={}, params={}, keras=keras.__version__,
)  # fmt: skip
