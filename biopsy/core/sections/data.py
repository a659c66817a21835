"""The sections of the data: from the table to squares of pixels."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from biopsy.core.sections.section import Fraction, Section


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

    Without a `reference` the mean of the protocol's training images is matched; each fold of a cross-validation has its
    own.
    """

    method: str = "none"
    reference: str | None = None
