"""What the metrics files hold, as far as anybody reads it: a file that was edited or torn gives one sentence.

Further keys are allowed. The values are checked and not changed: readers get what `read_json` read.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from biopsy.core.errors import DataError
from biopsy.core.files import AGAIN, read_json

SET = {"interval", "lowest", "by_class"}  # of a prediction set, beside its counts
STEPS = 20  # points of the curve: 5 %, 10 %, ... 100 % answered
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Known = Number | None
Ends = Annotated[list[Number], Field(min_length=2, max_length=2)] | None


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Reasoned(_Record):
    reasons: dict[str, str] = {}


class _Figures(_Reasoned):
    macro_f1: Known
    balanced_accuracy: Known
    accuracy: Known
    roc_auc: Known
    sensitivity: Known = None
    specificity: Known = None


class _ImageFigures(_Figures):
    macro_f1: Share


class _Intervals(_Reasoned):
    macro_f1: Ends
    balanced_accuracy: Ends = None
    accuracy: Ends = None
    roc_auc: Ends = None
    sensitivity: Ends = None
    specificity: Ends = None


class _OfClass(_Record):
    support: Number
    precision: Known
    recall: Known
    roc_auc: Known


class _CasesRight(_Record):
    right: Number
    of: Number
    interval: Ends


class Summary(_Reasoned):
    """What `evaluate` says of one model, as a table of results needs it: metrics/<model>/details.json."""

    task: str
    protocol: str
    synthetic: bool
    images: Count
    cases: Count | None
    classes: Annotated[list[str], Field(min_length=2)]
    classes_in_test: str
    classes_not_in_test: list[str]
    classes_not_in_training: list[str]
    image_level: _ImageFigures
    case_level: _Figures
    intervals: _Intervals
    case_intervals: _Intervals
    per_class: dict[str, _OfClass]
    threshold: Share
    cases_right: _CasesRight | None


class _Sharpness(_Record):
    ece: Known
    brier: Known
    log_loss: Known


class _Calibration(_Record):
    before: _Sharpness
    after: _Sharpness


class _Rate(_Record):
    right: Number
    of: Number
    share: Known
    interval: Ends = None
    reason: str | None = None


class _Rates(_Record):
    sensitivity: _Rate
    specificity: _Rate


class _Point(_Record):
    reason: str | None = None
    threshold: Known = None
    val: _Rates | None = None
    test: _Rates | None = None

    @model_validator(mode="after")
    def _is_whole_or_says_why_not(self) -> Self:
        if self.reason is None and None in (self.threshold, self.val, self.test):
            raise ValueError("it has neither a reason nor a threshold with val and test")
        return self


class _Operating(_Record):
    image: _Point | None = None
    case: _Point | None = None
    reason: str | None = None


class _Answered(_Reasoned):
    answered: Number
    of: Number
    wrong: Number


class _AnsweredTest(_Answered):
    share: Number
    error: Known
    interval: Ends


class _Rule(_Record):
    threshold: Number
    val: _Answered
    test: _AnsweredTest


class _Risk(_Reasoned):
    error: Number
    area: Number
    area_best: Number
    risk: Annotated[list[Number], Field(min_length=STEPS, max_length=STEPS)]
    rule: _Rule | None


class _Abstention(_Reasoned):
    target: Number
    image: _Risk
    case: _Risk | None


class _Curve(_Record):
    threshold: Annotated[list[Number], Field(min_length=1)]
    model: list[Number]
    all: list[Number]

    @model_validator(mode="after")
    def _lines_are_of_one_length(self) -> Self:
        if not len(self.threshold) == len(self.model) == len(self.all):
            raise ValueError("its lines differ in length")
        return self


class _Decision(_Reasoned):
    unit: Literal["case", "image"]
    of: Count
    curve: _Curve | None


class _OfSet(_Record):
    covered: Number
    of: Number
    coverage: Known


class _Set(_Reasoned):
    threshold: Number
    coverage: Known
    covered: Known = None
    of: Known = None
    size: Known = None
    single: Known = None
    empty: Known = None
    interval: Ends = None
    lowest: Known = None
    by_class: dict[str, _OfSet] = {}

    @model_validator(mode="after")
    def _is_whole_where_it_was_tried(self) -> Self:
        counts = (self.covered, self.of, self.size, self.single, self.empty)
        if self.coverage is not None and (None in counts or not self.model_fields_set >= SET):
            raise ValueError("it has a coverage without the figures behind it")
        return self


class _Levels(_Reasoned):
    __pydantic_extra__: dict[str, _Set | None] = Field(init=False)


class _Sets(_Record):
    cases: Number | None
    origin: Literal["validation", "folds"] | None = Field(alias="from")
    levels: _Levels


class _Data(_Record):
    labels: str
    split: str


class _Model(_Record):
    sha256: str
    data: _Data
    temperature: Number
    fold: str | None = None
    reason: str | None = None


class Details(Summary):
    """What the report needs besides."""

    calibration: _Calibration
    operating_point: _Operating
    abstention: _Abstention
    sets: _Sets
    decision: _Decision
    models: Annotated[list[_Model], Field(min_length=1)]


class Short(RootModel[dict[str, bool | int | Known]]):
    """The figures of one part, or of a training: metrics/<model>/test.json, val.json and train.json."""

    model_config = ConfigDict(strict=True)


class _Size(_Record):
    images: Count
    slides: Count | None = None
    cases: Count | None = None


class _Protocol(_Record):
    says: str
    parts: dict[str, _Size | dict[str, _Size]] = {}
    shared: dict[str, dict[str, Count] | None] = {}
    test_images_seen: dict[str, Count | None] = {}


class Splits(RootModel[dict[str, _Protocol]]):
    """metrics/split.json, by protocol."""


class _Counted(_Record):
    count: Count


class _Dropped(_Counted):
    by_reason: dict[str, Count] = {}


class _Csv(_Record):
    rows: Count = 0


class Ingest(_Record):
    """metrics/ingest.json."""

    source: str
    csv: _Csv = _Csv()
    dropped: _Dropped = _Dropped(count=0)


class _Unlabelled(_Record):
    dropped: Count = 0


class Impute(_Record):
    """metrics/impute.json."""

    images: Count = 0
    slides: Count | None = None
    cases: Count | None = None
    labels: dict[str, dict[str, Count]] = {}
    filled: dict[str, _Counted] = {}
    unlabelled: _Unlabelled = _Unlabelled()


class Resized(_Record):
    """metrics/resize.json."""

    mode: str


class Stained(_Record):
    """metrics/stain-<protocol>.json."""

    method: str
    images: Count = 0
    normalised: Count = 0
    folds: dict[str, "Stained"] = {}


def read_record(path: Path, kind: type[BaseModel], way_out: str = AGAIN) -> dict[str, Any]:
    """Read a metrics file.

    Parameters
    ----------
    path
        The file.
    kind
        One of the models of this module.
    way_out
        What the error tells the user to do.

    Raises
    ------
    DataError
        It is missing, torn, of an earlier version, or edited: names the first value that is not what it must be.
    """
    return fitting(read_json(path, {}, way_out), kind, path, way_out)


def fitting(content: dict[str, Any], kind: type[BaseModel], name: Path | str, way_out: str = AGAIN) -> dict[str, Any]:
    """Return `content` once it fits `kind`. Raises `DataError`, which calls it `name`."""
    try:
        kind.model_validate(content)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        lacking = [fault for fault in faults if fault["type"] == "missing"]
        if lacking:
            where = ".".join(map(str, lacking[0]["loc"]))
            raise DataError(f"{name} was made by an earlier version, or edited: it lacks {where}. {way_out}") from None
        where, said = ".".join(map(str, faults[0]["loc"])), faults[0]["msg"]
        found = repr(faults[0]["input"])
        shown = found if len(found) <= 60 else f"{found[:59]}…"
        raise DataError(f"{name} was edited: {where} is {shown} ({said}). {way_out}") from None
    return content
