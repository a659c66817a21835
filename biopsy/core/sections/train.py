"""The sections `augment` and `train`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from biopsy.core.sections.section import Fraction, Section, Task


class Mix(Section):
    """Mixing of two images of a batch and of their labels: alpha of the Beta distribution; 0: no mixing."""

    mixup: float = Field(0.0, ge=0, le=10)
    cutmix: float = Field(0.0, ge=0, le=10)

    @property
    def is_on(self) -> bool:
        """Whether any images are mixed."""
        return bool(self.mixup or self.cutmix)


class Augment(Section):
    """Train-time augmentation: of every image, of the copies that double the minority, and between images.

    `every` and `copies` map names of `biopsy.training.augment.registry` to strengths, whose types stand there.
    """

    every: dict[str, Any] = Field(default_factory=dict)
    double_minority: bool = False
    copies: dict[Task, dict[str, Any]] = Field(default_factory=dict)
    mix: Mix = Mix()


Epochs = Annotated[int, Field(ge=1, le=10_000)]


class Schedule(Section):
    """How the learning rate changes: not at all, cut on a plateau of the validation loss, or along a cosine.

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
    workers: int = Field(1, ge=1, le=256)
    cache_mb: int = Field(10_000, ge=0)

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
        if self.workers > 1 and self.backend != "jax":
            reason = {
                "tensorflow": "TensorFlow's MultiWorkerMirroredStrategy fails in Keras 3 (keras-team/keras #20585)",
                "torch": "PyTorch trains in one process here",
            }[self.backend]
            raise ValueError(
                f"train.workers is {self.workers}, and {reason}. Set train.backend to jax, or train.workers to 1"
            )
        if self.loss.name in ("class_balanced", "logit_adjusted") and self.class_weights != "none":
            raise ValueError(
                f"train.loss.name is '{self.loss.name}' and train.class_weights is '{self.class_weights}': both make "
                "up for rare classes. Set train.class_weights to none"
            )
        return self
