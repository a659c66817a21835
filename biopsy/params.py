"""The parameters in force: `params.yaml`, parsed once into typed, bounded objects."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from yaml import YAMLError

from biopsy.errors import ParamsError, nearest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Jitter = Annotated[float, Field(ge=0, lt=1)]
Task = Literal["binary", "multiclass"]
PROTOCOL_PATTERN = r"^(image|slide|case)(-[1-9][0-9]*of[1-9][0-9]*)?$|^fold1$"
Protocol = Annotated[str, Field(pattern=PROTOCOL_PATTERN)]
SUBTYPES = r"A|F|PT|TA|DC|LC|MC|PC"


class Section(BaseModel):
    """One section of params.yaml: unknown keys and lenient type conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sample(Section):
    """The synthetic images that `fetch` draws."""

    images: int = Field(240, ge=48, le=100_000)
    width: int = Field(350, ge=64, le=2048)
    height: int = Field(230, ge=64, le=2048)


class Breakhis(Section):
    """Where the official archive, or a copy of it, and an optional CSV come from."""

    url: str = Field("http://www.inf.ufpr.br/vri/databases/BreaKHis_v1.tar.gz", pattern=r"^https?://")
    path: str | None = None
    csv: str | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    max_gb: float = Field(8.0, gt=0)


class Local(Section):
    """Any CSV and any folder."""

    csv: str | None = None
    images: str | None = None


class Data(Section):
    """`fetch`: which source, and its settings."""

    source: Literal["sample", "breakhis", "local"] = "sample"
    sample: Sample = Sample()
    breakhis: Breakhis = Breakhis()
    local: Local = Local()

    @model_validator(mode="after")
    def _local_is_complete(self) -> Self:
        if self.source == "local" and not (self.local.csv and self.local.images):
            raise ValueError("data.source is 'local', which needs both data.local.csv and data.local.images")
        return self


class Columns(Section):
    """The CSV's column names; None where the CSV has no such column."""

    path: str = "path_to_image"
    label: str | None = "Benign or Malignant"
    subtype: str | None = "Cancer Type"
    magnification: str | None = "Magnification"
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
    conflicts: str = Field("drop_both", pattern=rf"^(error|drop_both|keep_(benign|malignant|{SUBTYPES}))$")


class Impute(Section):
    """`impute`: whom to trust when a label contradicts its file name."""

    contradiction: Literal["error", "trust_csv", "trust_name"] = "error"


class Split(Section):
    """`split`: the parts' sizes, and the table of the official fold 1."""

    train: Fraction = 0.70
    val: Fraction = 0.15
    test: Fraction = 0.15
    fold_table: str | None = None

    @model_validator(mode="after")
    def _parts_sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"split.train + split.val + split.test must be 1. Got {total:g}")
        return self


class Resize(Section):
    """`resize`: the side of the square, and what happens to the aspect ratio."""

    size: int = Field(256, ge=32, le=1024)
    aspect: Literal["stretch", "pad", "crop"] = "stretch"


class Head(Section):
    """The layers between the backbone's feature map and the output."""

    feature_norm: bool = True
    units: int = Field(64, ge=0, le=4096)
    dropout: float = Field(0.5, ge=0, lt=1)
    unit_norm: bool = True
    batch_norm: bool = True
    l2: float = Field(0.0, ge=0, le=1)


class Model(Section):
    """Which network: backbone, its weights, what of it trains, and its head."""

    backbone: str = "cnn"
    weights: str = "none"
    trainable: Literal["all", "none"] | Annotated[int, Field(ge=1)] = "all"
    head: Head = Head()


class Jitters(Section):
    """Random changes of one image; the numbers are the largest relative change."""

    flip: bool = False
    rot90: bool = False
    brightness: Jitter = 0.0
    contrast: Jitter = 0.0
    saturation: Jitter = 0.0


class Augment(Section):
    """Train-time augmentation: of every image, and of the copies that double the minority."""

    every: Jitters = Jitters()
    double_minority: bool = False
    copies: dict[Task, Jitters] = {}


class Epochs(Section):
    """The most epochs a task may train."""

    binary: int = Field(50, ge=1, le=10_000)
    multiclass: int = Field(70, ge=1, le=10_000)


class ReduceLR(Section):
    """Keras's ReduceLROnPlateau on the validation loss."""

    factor: Fraction = 0.5
    patience: int = Field(3, ge=0)
    min_lr: float = Field(1e-6, ge=0)


class Train(Section):
    """`train`: the optimisation."""

    epochs: Epochs = Epochs()
    batch: int = Field(128, ge=1, le=65_536)
    accumulate: int = Field(1, ge=1, le=1024)
    optimizer: str = "adam"
    learning_rate: float = Field(1e-4, gt=0, le=10)
    early_stopping_patience: int | None = Field(7, ge=0)
    reduce_lr: ReduceLR | None = ReduceLR()
    class_weights: Literal["balanced", "none"] = "balanced"
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    cache_mb: int = Field(4096, ge=0)


class Evaluate(Section):
    """`evaluate`: how the figures are rounded, and how many bootstrap draws make an interval."""

    digits: int = Field(3, ge=1, le=6)
    bootstrap: int = Field(1000, ge=0, le=100_000)


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(0, ge=0, lt=2**31)
    tasks: list[Task] = Field(["binary", "multiclass"], min_length=1)
    protocols: list[Protocol] = Field(["image", "case"], min_length=1)
    data: Data = Data()
    ingest: Ingest = Ingest()
    impute: Impute = Impute()
    split: Split = Split()
    resize: Resize = Resize()
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @field_validator("tasks", "protocols")
    @classmethod
    def _no_repetition(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("each entry may stand once")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if "fold1" in self.protocols and not self.split.fold_table:
            raise ValueError(
                "protocols lists 'fold1', which needs split.fold_table, the path of the official fold's table"
            )
        for protocol in self.protocols:
            if "of" in protocol:
                fold, folds = map(int, protocol.split("-")[1].split("of"))
                if fold > folds or folds < 3:
                    raise ValueError(
                        f"protocols lists '{protocol}': a fold is written <protocol>-<i>of<k> with i <= k and k >= 3"
                    )
        if self.model.trainable == "none" and self.model.weights == "none" and self.model.backbone != "cnn":
            raise ValueError(
                "model.trainable is 'none' and model.weights is 'none': a frozen backbone of random weights learns "
                "nothing. Set model.weights to imagenet or to a file, or model.trainable to all"
            )
        return self


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check `params.yaml`.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Params
        The checked parameters.

    Raises
    ------
    ParamsError
        Names the file, the key, what is allowed and what was found.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing. Restore it with `git checkout {path}`.") from None
    except IsADirectoryError:
        raise ParamsError(f"{path} is a folder, not a file. Restore it with `git checkout {path}`.") from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ParamsError(f"{path} is not valid YAML: {reason}. Mend it, or `git checkout {path}`.") from None
    return parse_params(content, str(path))


def parse_params(content: Any, origin: str = "params.yaml") -> Params:
    """Check a parsed mapping; `origin` is how the error names it. Raises `ParamsError`."""
    if not isinstance(content, dict):
        raise ParamsError(f"{origin} must hold sections such as `data:` and `train:`. Got {type(content).__name__}.")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(" ".join(_sentence(dict(e), origin) for e in error.errors()[:3])) from None


def _sentence(error: dict[str, Any], origin: str) -> str:
    """Put one pydantic error into a sentence: key, what is allowed, what was received."""
    names = [str(part) for part in error["loc"] if "[" not in str(part) and part not in ("int", "constrained-int")]
    key = ".".join(names)
    if error["type"] == "extra_forbidden":
        return f"{origin}: unknown parameter '{key}'.{nearest(names[-1], _keys_at(names[:-1]))}"
    if error["type"] == "value_error":
        reason = str(error["ctx"]["error"])
        return f"{origin}: {reason}." if not key or "." in reason else f"{origin}: '{key}': {reason}."
    received = error["input"]
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "string_pattern_mismatch":
        message = f"must match {error['ctx']['pattern']}"
        if names[0] == "protocols":
            message = "must be image, slide, case, fold1, or one fold of k such as case-1of5"
    else:
        message = message.replace("input should be", "must be").replace("value error, ", "")
    choices = error.get("ctx", {}).get("expected", "")
    hint = nearest(str(received), [c.strip("' ") for c in choices.replace(" or ", ",").split(",")]) if choices else ""
    return f"{origin}: '{key}' {message}. Got {received!r}.{hint}"


def _keys_at(names: list[str]) -> list[str]:
    """List the known keys of the section at a path of names."""
    section: Any = Params()
    for name in names:
        if isinstance(section, BaseModel):
            section = getattr(section, name, None)
    if isinstance(section, BaseModel):
        return list(type(section).model_fields)
    return list(Jitters.model_fields)
