"""The sections of `params.yaml`: which keys there are, of which type, within which bounds."""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from biopsy.core.encoders import ENCODERS, IMAGENET, Colours
from biopsy.core.errors import nearest
from biopsy.core.layout import cache
from biopsy.core.protocol import PATTERN

HUB = r"^hf://([\w.-]+/[\w.-]+)/([\w./-]+)$"  # a file of a hub: organisation and repository, path in it

Fraction = Annotated[float, Field(gt=0, lt=1)]
# A task is part of the names of folders and columns: models/<task>-<protocol>, `<task>` in the table of labels.
Task = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
ProtocolName = Annotated[str, Field(pattern=PATTERN)]


class Section(BaseModel):
    """One section of params.yaml: unknown keys and lenient type conversions are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(BaseModel):
    """`fetch`: which source, and a CSV of facts about slides for models that take one; where `resize` works.

    Each source has a section of its own here, which `biopsy.sources.kinds` checks.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    source: str = "sample"
    slides: str | None = None
    engine: Literal["local", "ray"] = "local"


class Columns(Section):
    """The CSV's column names; None where the CSV has no such column."""

    path: str = "path_to_image"
    magnification: str | None = "Magnification"
    mpp: str | None = None
    slide: str | None = None
    case: str | None = None


class Ingest(Section):
    """`ingest`: what is tolerated in the table and the files, and what becomes of it."""

    columns: Columns = Columns()
    missing_files: Literal["error", "drop"] = "error"
    unreadable: Literal["error", "drop"] = "error"
    not_rgb: Literal["convert", "drop", "error"] = "convert"
    min_size: int = Field(32, ge=1)
    max_pixels: int = Field(50_000_000, ge=1, le=89_478_485)
    duplicate_rows: Literal["drop", "error"] = "drop"
    duplicates: Literal["drop", "keep"] = "drop"
    conflicts: str = Field("drop_both", pattern=r"^(error|drop_both|keep_.+)$")


class Impute(Section):
    """`impute`: whom to trust when a label contradicts its file name, and what becomes of a row without a label."""

    contradiction: Literal["error", "trust_csv", "trust_name"] = "error"
    unlabelled: Literal["error", "drop"] = "error"


class Split(Section):
    """`split`: the parts' sizes, a fold table for `fold1`, and the CSV's own column of parts for `given`."""

    train: Fraction = 0.70
    val: Fraction = 0.15
    test: Fraction = 0.15
    fold_table: str | None = None
    column: str | None = None
    map: dict[str, Literal["train", "val", "test"]] = Field(default_factory=dict)

    @field_validator("map", mode="before")
    @classmethod
    def _keys_are_text(cls, value: Any) -> Any:
        """Read `map: {0: train}`: YAML takes 0 for a number, a CSV has text. `-S` can replace null, not `{}`."""
        value = {} if value is None else value
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _parts_sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"split.train + split.val + split.test must be 1. Got {total:g}")
        return self


class Tiles(Section):
    """Squares of `px` pixels at the image's own scale, on a grid spread evenly over it.

    Their number does not depend on the image: they overlap in a small one, and leave gaps in a large one.
    """

    px: int = Field(230, ge=8, le=4096)
    rows: int = Field(2, ge=1, le=16)
    columns: int = Field(3, ge=1, le=16)


class Resize(Section):
    """`resize`: the side of the square, how an image becomes one or several, and what is kept of its colours."""

    size: int = Field(256, ge=32, le=1024)
    mode: Literal["stretch", "pad", "crop", "tiles"] = "stretch"
    tiles: Tiles = Tiles()
    structure: Literal["rgb", "grayscale", "laplacian"] = "rgb"

    @model_validator(mode="before")
    @classmethod
    def _mode_was_called_aspect(cls, given: Any) -> Any:
        if isinstance(given, dict) and "aspect" in given:
            raise ValueError(f"resize.aspect is now called resize.mode. Write resize.mode: {given['aspect']}")
        return given


class Stain(Section):
    """`stain`: a method of `biopsy.images.stains` or none, and the image to match.

    Without a `reference` the mean of the protocol's training images is matched.
    """

    method: str = "none"
    reference: str | None = None


class Features(Section):
    """What the head sees of the backbone: the outputs of which layers, and how each is pooled over its positions."""

    layers: list[str] = Field(["last"], min_length=1)
    pool: Literal["mean", "sd", "gem"] = "mean"

    @field_validator("layers")
    @classmethod
    def _no_repetition(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("each layer may be there once")
        return value


class Probe(Section):
    """Logistic regression on features, where `model.head.kind` is 'probe'.

    Attributes
    ----------
    weights
        'case': of one class every case weighs the same, however many images it has; 'image': every image does.
    C
        Inverse strengths of the penalty to choose from; one: no choice. The features are standardised and divided by
        the square root of their number, and the weights sum to the number of cases, so that C means the same with few
        and many features and images.
    layers
        Where `model.features.layers` names several: of all together, or of one or all, as the folds below choose.
    folds
        Of cases, inside the training part, to choose C and layers.
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
    layers: Literal["together", "chosen"] = "together"
    folds: int = Field(5, ge=2, le=20)
    pca: int | None = Field(None, ge=1, le=4096)
    refit: bool = True
    max_iter: int = Field(1000, ge=1, le=100_000)


class Head(Section):
    """The layers between the backbone's features and the output; of a 'probe' the output layer alone."""

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
    extra_inputs: list[Literal["magnification", "slides"]] = []
    encoder: Encoder = Encoder()
    features: Features = Features()
    head: Head = Head()
    probe: Probe = Probe()

    @property
    def weights_file(self) -> Path | None:
        """The file that `weights` names, of a hub where it is kept on this machine; None where it names none."""
        found = re.match(HUB, self.weights)
        if found:
            return cache("weights") / str(self.weights_sha256) / PurePosixPath(found[2]).name
        return None if self.weights in ("none", "imagenet") else Path(self.weights)

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
        if self.probe.layers != "together" and len(self.features.layers) == 1:
            raise ValueError(
                "model.probe.layers is 'chosen', and model.features.layers names one layer alone. Name several, or set "
                "model.probe.layers to together"
            )
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


class Mix(Section):
    """Mixing of two images of a batch and of their labels: the alpha of the Beta distribution; 0: never."""

    mixup: float = Field(0.0, ge=0, le=10)
    cutmix: float = Field(0.0, ge=0, le=10)


class Augment(Section):
    """Train-time augmentation: of every image, of the copies that double the minority, and between images.

    `every` and `copies` map names of `biopsy.training.augment.registry` to strengths, whose types stand there.
    """

    every: dict[str, Any] = {}
    double_minority: bool = False
    copies: dict[Task, dict[str, Any]] = {}
    mix: Mix = Mix()


Epochs = Annotated[int, Field(ge=1, le=10_000)]


class Schedule(Section):
    """How the learning rate goes on: as it is, cut on a plateau of the validation loss, or along a cosine.

    `factor`, `patience` and `min_lr` are Keras's ReduceLROnPlateau's; the cosine ends at `min_lr`, after
    `warmup_epochs` of linear growth.
    """

    name: Literal["constant", "plateau", "cosine"] = "plateau"
    factor: Fraction = 0.5
    patience: int = Field(3, ge=0)
    min_lr: float = Field(1e-6, ge=0)
    warmup_epochs: int = Field(0, ge=0)


class Loss(Section):
    """Which loss, and its numbers: focal's gamma, class-balanced's beta, logit adjustment's tau."""

    name: str = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    gamma: float = Field(2.0, ge=0, le=10)
    beta: float = Field(0.999, ge=0, lt=1)
    tau: float = Field(1.0, ge=0, le=10)


class Train(Section):
    """`train`: the optimisation."""

    epochs: Epochs | dict[Task, Epochs] = 50
    batch: int = Field(128, ge=1, le=65_536)
    sampling: Literal["image", "case"] = "image"
    accumulate: int = Field(1, ge=1, le=1024)
    optimizer: str = "adam"
    learning_rate: float = Field(1e-4, gt=0, le=10)
    weight_decay: float = Field(0.0, ge=0, le=1)
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    loss: Loss = Loss()
    schedule: Schedule = Schedule()
    monitor: Literal["val_loss", "val_macro_f1", "val_auc", "none"] = "val_loss"
    early_stopping_patience: int | None = Field(7, ge=0)
    class_weights: Literal["balanced", "original", "none"] = "balanced"
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    backend: Literal["tensorflow", "jax", "torch"] = "tensorflow"
    devices: Literal["one", "all"] = "one"
    cache_mb: int = Field(4096, ge=0)

    def epochs_of(self, task: str) -> int:
        """Return the most epochs that a task may train."""
        return self.epochs if isinstance(self.epochs, int) else self.epochs[task]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        schedule = self.schedule
        if schedule.name != "constant" and schedule.min_lr >= self.learning_rate:
            raise ValueError(
                f"train.schedule.min_lr must be below train.learning_rate, which is {self.learning_rate:g}. "
                f"Got {schedule.min_lr:g}"
            )
        if schedule.warmup_epochs and schedule.name != "cosine":
            raise ValueError(
                f"train.schedule.warmup_epochs is {schedule.warmup_epochs}, and only the cosine schedule warms up. Set "
                f"it to 0, or train.schedule.name, which is '{schedule.name}', to cosine"
            )
        shortest = self.epochs if isinstance(self.epochs, int) else min(self.epochs.values(), default=0)
        if schedule.warmup_epochs > shortest:
            raise ValueError(
                f"train.schedule.warmup_epochs must be at most train.epochs, of which the smallest is {shortest}. "
                f"Got {schedule.warmup_epochs}"
            )
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError(
                f"train.weight_decay is {self.weight_decay:g}, which adam would scale by its second moment. Set "
                "train.optimizer to adamw, which decays the weights themselves, or train.weight_decay to 0"
            )
        if self.backend == "torch" and self.devices == "all":
            raise ValueError(
                "train.devices is 'all', and PyTorch trains on one here. Set train.backend to jax or tensorflow, "
                "or train.devices to one"
            )
        if self.loss.name in ("class_balanced", "logit_adjusted") and self.class_weights != "none":
            raise ValueError(
                f"train.loss.name is '{self.loss.name}' and train.class_weights is '{self.class_weights}': both make "
                "up for rare classes. Set train.class_weights to none"
            )
        return self


class Interval(Section):
    """Numbers that `biopsy tune` may try: from `low` to `high`, whole ones where both are; `log`: by ratio."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"tune.space needs low < high, and low > 0 with log. Got low {self.low:g}, high {self.high:g}"
            )
        return self


class Choices(Section):
    """Values that `biopsy tune` may try."""

    choices: list[bool | int | float | str | None] = Field(min_length=2)


class Tune(Section):
    """`biopsy tune`: how many trials, what is best, what may vary. No stage depends on it.

    `space` maps parameters, such as `train.learning_rate`, to what may be tried.
    """

    trials: int = Field(20, ge=1, le=10_000)
    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    startup: int = Field(5, ge=1)
    grace_epochs: int = Field(3, ge=0)
    space: dict[str, Interval | Choices] = {}


class Evaluate(Section):
    """`evaluate`: how figures are rounded, the share of positives to find, and the error to reach by abstaining."""

    digits: int = Field(3, ge=1, le=6)
    sensitivity: Fraction = 0.95
    abstain_error: Fraction = 0.05
