"""A model card for tests of model files."""

from importlib.metadata import version

from biopsy.core.sections.data import Resize
from biopsy.images.preparation.record import Preparation
from biopsy.networks.model_file import Card
from schemes import scheme

LETTERS = scheme(multiclass={"column": None, "classes": list("abcdefgh")})
CARD = Card(
    task="multiclass", protocol="case", labels=LETTERS, preprocessing="x", threshold=0.5,
    preparation=Preparation(max_pixels=1, resize=Resize(size=32)), synthetic=True, backbone_weights_sha256=None,
    data={}, params={}, keras=version("keras"),
)  # fmt: skip
