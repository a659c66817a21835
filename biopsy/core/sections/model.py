"""The section `model`: backbone, the features taken from it, head."""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from biopsy.core.encoders import ENCODERS, IMAGENET, Colours
from biopsy.core.errors import nearest
from biopsy.core.files import at_home
from biopsy.core.layout import cache
from biopsy.core.sections.section import HUB, Section


class Features(Section):
    """The features that the head sees: which layers' outputs, and how each is pooled over its positions."""

    layers: list[str] = Field(["last"], min_length=1)
    pool: Literal["mean", "sd", "gem"] = "mean"

    @field_validator("layers")
    @classmethod
    def _no_repetition(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("each layer may appear only once")
        return value


class Probe(Section):
    """Logistic regression on features, where `model.head.kind` is 'probe'.

    Attributes
    ----------
    weights
        'case': within a class every case weighs the same, however many images it has; 'image': every image does.
    C
        Inverse strengths of the penalty to choose from. The features are standardised and divided by the square root of
        their number, and the weights sum to the number of cases, so that C means the same with few and many features
        and images.
    layers
        Of several in `model.features.layers`: 'together' fits one probe on all; 'averaged' fits one a
        layer, each with its own C, and takes the mean of their logits.
    parent
        Of a task with a parent task, such as tumour types, fit probes of the parent's classes too, and add their
        logits.
    folds
        Number of folds of cases, inside the training part, that choose C.
    pca
        The number of principal components that the features are whitened to; None: no whitening.
    refit
        Fit once more on training and validation images, with the C that was chosen. The validation figures, the
        temperature and the operating points are those of the fit on training images alone.
    max_iter
        Steps of the solver, lbfgs.
    """

    weights: Literal["case", "image"] = "case"
    C: list[Annotated[float, Field(gt=0, le=1e6)]] = Field([10.0, 100.0, 1000.0], min_length=1)
    layers: Literal["together", "averaged"] = "together"
    parent: bool = False
    folds: int = Field(5, ge=2, le=20)
    pca: int | None = Field(None, ge=1, le=4096)
    refit: bool = True
    max_iter: int = Field(1000, ge=1, le=100_000)


class Head(Section):
    """The layers between the backbone's features and the output; a 'probe' has the output layer only."""

    kind: Literal["dense", "probe"] = "dense"
    feature_norm: bool = True
    units: int = Field(64, ge=0, le=4096)
    dropout: float = Field(0.5, ge=0, lt=1)
    unit_norm: bool = True
    batch_norm: bool = True
    l2: float = Field(0.0, ge=0, le=1)


class Encoder(Section):
    """Which encoder `model.backbone: onnx` reads, and how pixels / 255 are normalised where it takes floats.

    `name` is one of `biopsy.core.encoders`, which says what its terms are; mean and std are by channel.
    """

    name: str | None = None
    mean: list[float] | None = Field(None, min_length=3, max_length=3)
    std: list[Annotated[float, Field(gt=0)]] | None = Field(None, min_length=3, max_length=3)

    @property
    def normalisation(self) -> tuple[Colours, Colours]:
        """Mean and deviation: as given, else those of the encoder that is named, else ImageNet's."""
        mean, std = (ENCODERS[self.name].normalisation if self.name else None) or IMAGENET
        return tuple(self.mean or mean), tuple(self.std or std)  # type: ignore[return-value]

    @model_validator(mode="after")
    def _name_is_known(self) -> Self:
        if self.name is not None and self.name not in ENCODERS:
            raise ValueError(
                f"model.encoder.name is '{self.name}', which is not known here. Known are {', '.join(ENCODERS)}; null: "
                f"another, whose terms you know yourself.{nearest(self.name, ENCODERS)}"
            )
        unknown = self.name is not None and ENCODERS[self.name].normalisation is None
        if unknown and None in (self.mean, self.std):
            raise ValueError(
                f"model.encoder.name is '{self.name}', whose normalisation is not known here. Set model.encoder.mean "
                "and model.encoder.std to what its page says"
            )
        return self


class Model(Section):
    """Which network: backbone, its weights, what of it trains, and its head."""

    backbone: str = "cnn"
    weights: str = "none"
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    trainable: Literal["all", "none"] | Annotated[int, Field(ge=1)] = "all"
    freeze_batch_norm: bool = False
    tiles: Literal["each", "mean"] = "each"
    tta: Literal["none", "flips", "d4"] = "none"
    feature_views: int | None = Field(None, ge=1, le=64)
    extra_inputs: list[Literal["magnification", "slides"]] = Field(default_factory=list)
    encoder: Encoder = Encoder()
    features: Features = Features()
    head: Head = Head()
    probe: Probe = Probe()

    @property
    def weights_file(self) -> Path | None:
        """The file that `weights` names; a hub's file is in this machine's cache. None where it names no file."""
        found = re.match(HUB, self.weights)
        if found:
            return cache("weights") / str(self.weights_sha256) / PurePosixPath(found[2]).name
        return None if self.weights in ("none", "imagenet") else at_home(self.weights)

    @property
    def own_weights(self) -> Path | None:
        """The user's own file that `weights` names; None where it names no file or a hub's."""
        return None if re.match(HUB, self.weights) else self.weights_file

    @property
    def weights_name(self) -> str:
        """The value of `weights`, but only the name of a user's file: its folder is private."""
        return self.own_weights.name if self.own_weights else self.weights

    @model_validator(mode="after")
    def _a_file_of_a_hub_is_known_by_its_hash(self) -> Self:
        if not self.weights.startswith("hf:"):
            return self
        if not re.match(HUB, self.weights):
            raise ValueError(
                f"model.weights is '{self.weights}'. A file of a hub is written hf://organisation/repository/file.onnx"
            )
        if not self.weights_sha256:
            raise ValueError(
                f"model.weights is '{self.weights}', a file of a hub, which may change there. Set model.weights_sha256 "
                "to the SHA-256 that the hub's page of the file says"
            )
        return self

    @model_validator(mode="after")
    def _hash_is_of_a_file(self) -> Self:
        if self.weights_sha256 and self.weights in ("none", "imagenet"):
            raise ValueError(
                f"model.weights_sha256 is the hash of a file, and model.weights is '{self.weights}'. Set it to null"
            )
        return self

    @model_validator(mode="after")
    def _an_encoder_is_a_frozen_file(self) -> Self:
        if self.backbone == "onnx" and self.weights in ("none", "imagenet"):
            raise ValueError(
                f"model.backbone is 'onnx' and model.weights is '{self.weights}'. Set it to the path of an .onnx file"
            )
        if self.backbone != "onnx" and self.encoder.name:
            raise ValueError(
                f"model.encoder.name is '{self.encoder.name}', an encoder in an ONNX file, and model.backbone is "
                f"'{self.backbone}'. Set it to onnx, or model.encoder.name to null"
            )
        if self.backbone == "onnx" and self.trainable != "none":
            raise ValueError(
                "model.backbone is 'onnx', an encoder that cannot be trained, and model.trainable is "
                f"{self.trainable!r}. Set it to none"
            )
        return self

    @model_validator(mode="after")
    def _a_head_suits_its_features(self) -> Self:
        if self.head.feature_norm and self.features != Features():
            raise ValueError(
                "model.head.feature_norm works on the map of the last layer, and model.features takes pooled features "
                f"of {', '.join(self.features.layers)} ({self.features.pool}). Set model.head.feature_norm to false"
            )
        return self

    @model_validator(mode="after")
    def _a_probe_suits_the_rest(self) -> Self:
        if self.head.kind != "probe":
            return self
        begin = "model.head.kind is 'probe', which is fitted to the features of a frozen, trained backbone,"
        if self.trainable != "none":
            raise ValueError(f"{begin} and model.trainable is {self.trainable!r}. Set it to none")
        if self.weights == "none":
            raise ValueError(f"{begin} and model.weights is 'none'. Set it to imagenet or to a file")
        layers = ("feature_norm", "units", "unit_norm", "batch_norm", "l2")
        if unused := [name for name in layers if getattr(self.head, name)]:
            raise ValueError(
                f"model.head.kind is 'probe', one layer on the features, and model.head.{unused[0]} asks for more. Set "
                "it to 0 or false, or model.head.kind to dense"
            )
        if self.feature_views:
            raise ValueError(
                "model.head.kind is 'probe', which stores the features of the images as they are, and "
                f"model.feature_views is {self.feature_views}. Set it to null"
            )
        return self
