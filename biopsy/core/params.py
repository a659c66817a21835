"""The parameters in force: `params.yaml`, parsed once into typed, bounded objects."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from biopsy.core.errors import ParamsError, nearest
from biopsy.core.labels import FROM_CSV, Labels
from biopsy.core.layout import home_of
from biopsy.core.protocol import FORMS, parse_protocol
from biopsy.core.sections.data import Data, Impute, Ingest, Resize, Split, Stain
from biopsy.core.sections.figures import Evaluate, Export, Tune
from biopsy.core.sections.model import Model
from biopsy.core.sections.section import ProtocolName, Section, Task, refuse_repetition
from biopsy.core.sections.train import Augment, Train
from biopsy.core.text import count
from biopsy.core.yaml_file import check_numbers, read_yaml

PATHS = ("split.fold_table", "stain.reference", "model.weights")  # and what lies below `data`
S = TypeVar("S", bound=BaseModel)
SHOWN = 3  # errors of one file; the others are counted
LONGEST = 200  # characters of a value in an error

MOVED = {  # names of earlier versions, and what became of them
    "ingest.columns.label": "is now labels.tasks.<task>.column (conf/labels/)",
    "evaluate.tta": "is model.tta, since the temperature is fitted to answers that are averaged in the same way",
    "evaluate.bootstrap": "is not needed any more, because intervals are computed without random draws. Remove it",
    "ingest.columns.subtype": "is now labels.tasks.<task>.column (conf/labels/)",
}


class Params(Section):
    """All of params.yaml."""

    experiment: str | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    tasks: list[Task] = Field(["label"], min_length=1)
    protocols: list[ProtocolName] = Field(["image", "case"], min_length=1)
    labels: Labels = Labels()
    data: Data = Data()
    ingest: Ingest = Ingest()
    impute: Impute = Impute()
    split: Split = Split()
    resize: Resize = Resize()
    stain: Stain = Stain()
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune = Tune()

    @field_validator("tasks", "protocols")
    @classmethod
    def _no_repetition(cls, value: list[str]) -> list[str]:
        return refuse_repetition(value)

    @model_validator(mode="after")
    def _tasks_are_of_the_scheme(self) -> Self:
        known = self.labels.tasks
        for task in self.tasks:
            if task not in known:
                raise ValueError(
                    f"tasks lists '{task}', which the label scheme '{self.labels.name}' does not have. Its tasks are "
                    f"{', '.join(known)}.{nearest(task, known)}"
                )
        epochs = self.train.epochs
        lacking = [task for task in self.tasks if isinstance(epochs, dict) and task not in epochs]
        if lacking:
            raise ValueError(
                f"train.epochs has no number for task '{lacking[0]}'. Add train.epochs.{lacking[0]}, or set "
                "train.epochs to one number for all tasks"
            )
        return self

    @model_validator(mode="after")
    def _a_label_that_is_kept_exists(self) -> Self:
        policy, named = self.ingest.conflicts, [task.classes for task in self.labels.tasks.values()]
        kept, classes = policy.removeprefix("keep_"), [name for task in named for name in task if task != FROM_CSV]
        if kept != policy and kept not in classes and FROM_CSV not in named:
            raise ValueError(
                f"'ingest.conflicts' is '{policy}'; keep_ must be followed by a class of the label scheme: "
                f"{', '.join(classes)}.{nearest(kept, classes)}"
            )
        return self

    @model_validator(mode="after")
    def _batch_suits_the_head(self) -> Self:
        head = self.model.head
        if self.train.batch == 1 and (head.batch_norm or head.feature_norm):
            raise ValueError(
                "train.batch is 1, and the batch norms of model.head (batch_norm, feature_norm) need several images. "
                "Set train.batch to 2 or more, or model.head.batch_norm and model.head.feature_norm to false"
            )
        return self

    @model_validator(mode="after")
    def _folds_exist(self) -> Self:
        if "fold1" in self.protocols and not self.split.fold_table:
            raise ValueError("protocols lists 'fold1', which needs split.fold_table, the path of a fold table")
        if "given" in self.protocols and not self.split.column:
            raise ValueError("protocols lists 'given', which needs split.column, the CSV's column of parts")
        for name in self.protocols:
            try:
                parse_protocol(name)
            except ValueError as error:
                raise ValueError(f"protocols lists {error}") from None
        return self

    @model_validator(mode="after")
    def _a_frozen_backbone_suits_the_rest(self) -> Self:
        random = self.model.trainable == "none" and self.model.weights == "none"
        if random and self.model.backbone not in ("cnn", "cnn_small"):
            raise ValueError(
                "model.trainable is 'none' and model.weights is 'none': a frozen backbone of random weights learns "
                "nothing. Set model.weights to imagenet or to a file, or model.trainable to all"
            )
        views = self.model.feature_views
        if views and self.model.trainable != "none":
            raise ValueError(
                f"model.feature_views is {views}, which stores features of a frozen backbone, and model.trainable is "
                f"{self.model.trainable!r}. Set model.trainable to none or model.feature_views to null"
            )
        if views == 1 and (any(self.augment.every.values()) or any(self.augment.copies.values())):
            raise ValueError(
                "model.feature_views is 1: one stored view cannot hold a random augmentation. Set it to 8, say, for "
                "eight views of each image, or augment.every and augment.copies to {}"
            )
        if views and self.augment.mix.is_on:
            raise ValueError(
                "augment.mix mixes pixels, which stored features no longer have. Set model.feature_views to null"
            )
        return self

    @model_validator(mode="after")
    def _several_processes_have_something_to_share(self) -> Self:
        stored = {"model.feature_views": self.model.feature_views, "model.head.kind": self.model.head.kind == "probe"}
        if self.train.workers > 1 and (found := [name for name, chosen in stored.items() if chosen]):
            raise ValueError(
                f"train.workers is {self.train.workers}, and {found[0]} trains a head on stored features, which one "
                "process does in seconds. Set train.workers to 1"
            )
        return self

    @model_validator(mode="after")
    def _pixels_suit_what_is_done_to_them(self) -> Self:
        if self.augment.mix.is_on and self.train.class_weights != "none":
            raise ValueError(
                f"train.class_weights is '{self.train.class_weights}', which needs one class an image, and augment.mix "
                "makes images of two. Set train.class_weights to none"
            )
        if self.stain.method != "none" and self.resize.structure != "rgb":
            raise ValueError(
                f"stain.method is '{self.stain.method}' and resize.structure is '{self.resize.structure}', which keeps "
                "no colour to normalise. Set stain.method to none or resize.structure to rgb"
            )
        return self

    @model_validator(mode="after")
    def _a_probe_draws_no_images(self) -> Self:
        probe = self.model.head.kind == "probe"
        if probe and (self.augment.mix.is_on or self.augment.double_minority):
            name = "double_minority" if self.augment.double_minority else "mix"
            raise ValueError(
                f"augment.{name} makes further images, and model.head.kind is 'probe', which takes the images as they "
                "are. Set augment to none, or model.head.kind to dense"
            )
        return self

    @model_validator(mode="after")
    def _tiles_are_not_mixed_together(self) -> Self:
        if self.resize.mode == "tiles" and self.model.tiles == "mean" and self.augment.mix.is_on:
            raise ValueError(
                "augment.mix mixes single squares, and model.tiles is 'mean', which takes all tiles of an image "
                "together. Set model.tiles to each, or augment.mix.mixup and augment.mix.cutmix to 0"
            )
        return self

    @model_validator(mode="after")
    def _inputs_agree(self) -> Self:
        extra = self.model.extra_inputs
        if len(set(extra)) < len(extra):
            raise ValueError(f"model.extra_inputs is {list(extra)}: each entry may appear only once")
        if "slides" in extra and self.data.source != "sample" and not self.data.slides:
            raise ValueError(
                "model.extra_inputs lists 'slides', which needs data.slides, the path of a CSV with a column 'slide'"
            )
        if extra and self.augment.mix.is_on:
            raise ValueError(
                "augment.mix mixes images of different slides, whose model.extra_inputs cannot be mixed. Set "
                "augment.mix.mixup and augment.mix.cutmix to 0, or model.extra_inputs to []"
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
    content = read_yaml(path)
    home = home_of(Path.cwd())
    return parse_params(_from_home(content, home) if home else content, str(path))


def _from_home(content: Any, home: Path) -> Any:
    """Make the user's relative paths start in the project where the folder of an experiment has no such file."""
    if not isinstance(content, dict):
        return content

    def resolve(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: resolve(inner, f"{key}.{name}" if key else str(name)) for name, inner in value.items()}
        named = isinstance(value, str) and (key in PATHS or (key.startswith("data.") and not key.endswith(".url")))
        if named and value and not Path(value).exists() and (home / value).exists():
            return str(home / value)
        return value

    return resolve(content)


def parse_params(content: Any, origin: str = "params.yaml") -> Params:
    """Check a parsed mapping; `origin` is how the error names it. Raises `ParamsError`."""
    if not isinstance(content, dict):
        raise ParamsError(f"{origin} must hold sections such as `data:` and `train:`. Got {type(content).__name__}.")
    check_numbers(content, origin)
    return check_section(Params, content, origin=origin)


def check_section(section: type[S], content: Any, above: str = "", origin: str = "params.yaml") -> S:
    """Check the section of the parameters at `above`, such as 'data.sample'. Raises `ParamsError`."""
    try:
        return section.model_validate(content)
    except ValidationError as error:
        errors = _meant([dict(e) for e in error.errors()])
        told = [_sentence(e, origin, above, section) for e in errors[:SHOWN]]
        rest = len(errors) - SHOWN
        more = [f"{count(rest, 'more error')} in {origin}."] if rest > 0 else []
        raise ParamsError(" ".join(told + more)) from None


def _names(error: dict[str, Any]) -> list[str]:
    """Return the keys that lead to an error, without those that pydantic adds for the members of a union."""
    return [str(part) for part in error["loc"] if "[" not in str(part) and part not in ("int", "constrained-int")]


def _meant(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out errors of the type that was not meant, where a value is a number, or a word, or else a mapping."""

    def is_meant(error: dict[str, Any]) -> bool:
        kind, word = error["type"], error["type"] == "literal_error"
        scalar = (word or kind.startswith("int_")) and isinstance(error["input"], dict)
        if not scalar and kind != "dict_type":  # most: thousands are not compared with each other
            return True
        key, others = _names(error), [_names(other) for other in errors if other is not error]
        return not any(other[: len(key)] == key and not (word and other == key) for other in others)

    return [error for error in errors if is_meant(error)]


def _sentence(error: dict[str, Any], origin: str, above: str, section: type[BaseModel]) -> str:
    """Put one pydantic error into a sentence: key, what is allowed, what was received."""
    names = _names(error)
    key = ".".join([above, *names] if above else names)
    if key in MOVED:
        return f"{origin}: '{key}' {MOVED[key]}."
    if error["type"] == "extra_forbidden":
        return f"{origin}: unknown parameter '{key}'.{nearest(names[-1], _keys_at(names[:-1], section))}"
    if error["type"] == "value_error":
        reason = str(error["ctx"]["error"]).removesuffix(".")
        end = "" if reason.endswith("?") else "."
        return f"{origin}: {reason}{end}" if not key or "." in reason else f"{origin}: '{key}': {reason}{end}"
    received = error["input"]
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "string_pattern_mismatch":
        message = f"must match {error['ctx']['pattern']}"
        if key.startswith("protocols"):
            message = f"must be {FORMS}"
    else:
        message = message.replace("input should be", "must be").replace("value error, ", "")
    choices = error.get("ctx", {}).get("expected", "")
    hint = nearest(str(received), [c.strip("' ") for c in choices.replace(" or ", ",").split(",")]) if choices else ""
    return f"{origin}: '{key}' {message}. Got {_cut(repr(received))}.{hint}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _keys_at(names: list[str], kind: type[BaseModel]) -> list[str]:
    """List the known keys of the section at a path of names below a section of this type."""
    section: Any = kind()
    for name in names:
        if isinstance(section, BaseModel):
            section = getattr(section, name, None)
    return list(type(section).model_fields) if isinstance(section, BaseModel) else []


def flat(params: Mapping[str, Any], above: str = "", whole: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """List nested parameters by their dotted names; an empty section and the keys of `whole` are not taken apart."""
    for key, value in params.items():
        if isinstance(value, dict) and value and key not in whole:
            yield from flat(value, f"{above}{key}.", whole)
        else:
            yield f"{above}{key}", value
