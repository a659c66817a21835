"""The sections `tune` and `evaluate`."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from biopsy.core.sections.section import Fraction, Section, refuse_repetition


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
    space: dict[str, Interval | Choices] = Field(default_factory=dict)

    @field_validator("space", mode="before")
    @classmethod
    def _of_one_kind(cls, space: Any) -> Any:
        for key, given in space.items() if isinstance(space, dict) else ():
            if isinstance(given, dict) and "choices" in given and {"low", "high", "log"} & given.keys():
                raise ValueError(
                    f"tune.space.{key} has choices and an interval, and may have one of them. A file of conf/tune that "
                    "begins with `defaults: [default]` takes over the intervals of default.yaml: leave that line out"
                )
        return space


class Export(Section):
    """`export`: in which formats models are written beside Keras's, and what int8 may cost."""

    formats: list[Literal["onnx", "int8", "openvino", "litert"]] = Field(["onnx"])
    int8_loss: float = Field(0.02, ge=0, lt=1)

    @field_validator("formats")
    @classmethod
    def _made_of_onnx(cls, value: list[str]) -> list[str]:
        if value and "onnx" not in value:
            raise ValueError("the other formats are made of onnx. Add onnx, or leave the list empty")
        return refuse_repetition(value)


class Evaluate(Section):
    """`evaluate`: how figures are rounded, the share of positives to find, and the error to reach by abstaining."""

    digits: int = Field(3, ge=1, le=6)
    sensitivity: Fraction = 0.95
    abstain_error: Fraction = 0.05
