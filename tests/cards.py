"""A model card for tests of model files."""

from biopsy.networks.backend import keras
from biopsy.networks.model_file import Card
from schemes import scheme

LETTERS = scheme(multiclass={"column": None, "classes": list("abcdefgh")})
CARD = Card(
    task="multiclass", protocol="case", labels=LETTERS, size=32, preprocessing="x", threshold=0.5,
    synthetic=True, backbone_weights_sha256=None, data={}, params={}, keras=keras.__version__,
)  # fmt: skip
