"""A trained model on disk: `model.keras` and, beside it, `model.json`, which says what it is and how to trust it."""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from biopsy.core.errors import SourceError, reason_of, some
from biopsy.core.files import atomic_file, sha256, write_json
from biopsy.core.layout import is_fold
from biopsy.core.record import Record
from biopsy.images.looks.record import Looks
from biopsy.images.preparation.record import Preparation
from biopsy.networks.temperature import Calibration
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.slides.extra_inputs import Encoder

NOTICE = "Research use only; not for diagnosis."
Strength = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold


class ProbeChoice(Record):
    """Which layers a probe sees, and the inverse strength of its penalty; of several averaged probes, of each.

    `C_parent` are those of the probes of the parent task's classes; empty where there are none.
    """

    layers: list[str]
    C: Annotated[list[Strength], BeforeValidator(lambda c: c if isinstance(c, list) else [c])]  # earlier: a number
    C_parent: list[Strength] = Field(default_factory=list)


class Card(Record):
    """What must be known to use a model: stored as `model.json`.

    Attributes
    ----------
    labels
        The label scheme; the classes of `task` are in the order of the outputs. With two classes, the one output is the
        probability of the second.
    preparation
        What turns a file into the model's input, the fitted stain included. `preprocessing` happens inside the model.
    extra_inputs
        How the inputs besides the pixels are encoded, fitted on training rows; None if there are none.
    threshold
        Operating point on the probability of the second of two classes.
    temperature, calibration
        The temperature of the probabilities (`biopsy.networks.temperature`), and how it was found; 1 in a card of a
        version that did not calibrate.
    training
        How its training images look to the network; None in a card of a version that did not measure.
    fold
        The fold of a cross-validation that tests it: '1-2' is the second of the first repeat.
    data
        SHA-256 of the labels, of the split, and of the pixels of each part; also of `validation.csv` if the model has
        learnt from the validation images.
    params
        The parameters that shaped it: seed, resize, model, augment, train.
    model_sha256
        Of `model.keras`; empty until it is saved. For an ensemble, of its `members`.
    probe
        What the inner folds chose; None if the head is not a probe.
    terms
        What the terms of a named encoder allow; empty if none is named.
    members
        The SHA-256 of each `model.keras` of an ensemble, sorted.
    """

    task: str
    protocol: str
    labels: LabelScheme
    preparation: Preparation
    preprocessing: str
    threshold: float = Field(gt=0, lt=1, allow_inf_nan=False)
    synthetic: bool
    backbone_weights_sha256: Sha256 | None
    data: dict[str, Sha256]
    params: dict[str, Any]
    keras: str
    extra_inputs: Encoder | None = None
    fold: str | None = None
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    calibration: Calibration | None = None
    training: Looks | None = None
    model_sha256: Sha256 | Literal[""] = ""
    members: list[Sha256] = Field(default_factory=list)
    probe: ProbeChoice | None = None
    terms: str = ""
    intended_use: str = NOTICE

    @model_validator(mode="after")
    def _task_is_of_the_scheme(self) -> Self:
        if self.task not in self.labels.tasks or len(self.classes) < 2:
            raise ValueError(f"its label scheme has no classes for task '{self.task}'")
        return self

    @property
    def classes(self) -> list[str]:
        """The classes' names, in the order of the outputs."""
        return self.labels[self.task].names

    @property
    def tta(self) -> str:
        """The flips and turns over which answers are averaged; 'none' in a card of an earlier version."""
        return str(self.params.get("model", {}).get("tta", "none"))


def save_model(model: Any, folder: Path, card: Card) -> None:
    """Write `model.keras` and `model.json` into `folder`; equal models give equal bytes.

    Parameters
    ----------
    model
        A Keras model of serialisable layers; its optimiser is left out.
    folder
        An existing folder.
    card
        What it is; its `model_sha256` is filled in here.
    """
    from biopsy.networks.backend import keras  # seconds, which reading a card should not cost

    inputs = model.inputs if len(model.inputs) == 1 else model.input  # several go by their names
    bare = keras.Model(inputs, model.outputs, name=model.name)
    with atomic_file(folder / "model.keras") as temporary:
        raw = temporary.with_name(f"{temporary.stem}.raw.keras")
        try:
            bare.save(raw)
            _normalise(raw, temporary)
        finally:
            raw.unlink(missing_ok=True)
    write_card(folder, card.model_copy(update={"model_sha256": sha256(folder / "model.keras")}))


def write_card(folder: Path, card: Card) -> None:
    """Write `model.json`: the card, and its hash `card_sha256`, by which `read_card` detects edits."""
    content = card.model_dump(mode="json")
    write_json(folder / "model.json", {**content, "card_sha256": _digest(content)})


def _digest(content: dict[str, Any]) -> str:
    """Hash a card; neither the order of its keys nor the layout of its file counts."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _normalise(source: Path, target: Path) -> None:
    """Copy a .keras archive without the time of saving and memory addresses, so that equal models have equal bytes.

    The copy computes in float32.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": "1980-01-01@00:00:00"}).encode()
            if name == "config.json":
                content = _in_float32(_renumber_shared_objects(content.decode())).encode()
            new.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def _in_float32(config: str) -> str:
    """Make a model that was trained in mixed precision compute in float32, the type of its weights.

    ONNX Runtime has no bfloat16 kernels, and a processor answers faster and the same for any batch size.
    """
    return re.sub(r'"(mixed_)?b?float16"', '"float32"', config)


def _renumber_shared_objects(config: str) -> str:
    """Number `shared_object_id` in order of appearance: Keras writes each object's address in memory."""
    numbers: dict[str, int] = {}
    return re.sub(
        r'("shared_object_id": )(\d+)', lambda m: m[1] + str(numbers.setdefault(m[2], len(numbers) + 1)), config
    )


def read_card(folder: Path) -> Card:
    """Read `model.json`. Raises `SourceError` where it is missing, not one of ours, or edited since it was written."""
    path = folder / "model.json"
    try:
        content = json.loads(path.read_text("utf-8"))
        digest = content.pop("card_sha256", None) if isinstance(content, dict) else None
        card = Card.model_validate_json(json.dumps(content), strict=True)
    except FileNotFoundError:
        known = sorted(str(card.parent) for card in folder.parent.glob("*/model.json"))
        if known and not folder.exists():
            raise SourceError(f"there is no model {folder}. There are {some(known, 8)}.") from None
        if inside := sorted([*(card.parent for card in folder.glob("*/model.json")), *folder.glob("*.onnx")]):
            folds = sum(map(is_fold, inside))
            mean = (
                f"`biopsy export {folder}` writes the mean of its {folds} folds. Name that file, or one of the models"
            )
            raise SourceError(
                f"{folder} is not a model, but holds some. {mean if folds > 1 else 'Name one'}: {some(inside, 8)}."
            ) from None
        raise SourceError(f"{path} is missing. Get it with `dvc pull {folder}`, or make it with `dvc repro`.") from None
    except NotADirectoryError:
        raise SourceError(
            f"{folder} is not a model. Name a folder such as models/binary-case, or an .onnx file."
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        lacking = [str(found["loc"][0]) for found in error.errors() if found["type"] == "missing"]
        if lacking:
            raise SourceError(
                f"{path} was written by an earlier version: it lacks {', '.join(lacking)}. Make the model again with "
                "`dvc repro`."
            ) from None
        reason = f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip()
        raise SourceError(f"{path} does not describe a model: {reason}. Run `dvc pull {folder}`.") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:  # no JSON, or no text
        raise SourceError(f"{path} does not describe a model: {error}. Run `dvc pull {folder}`.") from None
    if digest != _digest(content):
        raise SourceError(
            f"{path} was edited, or written by an earlier version: its card_sha256 is not the hash of the rest. "
            f"Run `dvc checkout {folder}`, or make it again with `dvc repro`."
        )
    return card


def check_bytes(folder: Path) -> Card:
    """Return the card once `model.keras` has the SHA-256 that it names; nothing is loaded. Raises `SourceError`."""
    card, path = read_card(folder), folder / "model.keras"
    if not path.is_file():
        raise SourceError(f"{path} is missing. Get it with `dvc pull {folder}`, or make it with `dvc repro`.")
    if sha256(path) != card.model_sha256:
        raise SourceError(
            f"{path} is not the file that model.json describes (its SHA-256 differs). Run `dvc checkout {folder}`."
        )
    return card


def load_model(folder: Path) -> tuple[Any, Card]:
    """Load a model in safe mode, after its bytes have been checked against its card.

    Parameters
    ----------
    folder
        Holds `model.keras` and `model.json`.

    Returns
    -------
    keras.Model, Card

    Raises
    ------
    SourceError
        Files missing, bytes other than the card's, or code that safe mode rejects.
    """
    card, path = check_bytes(folder), folder / "model.keras"
    from biopsy.networks.backend import keras  # ten seconds, which a wrong path should not cost

    ours = {}
    if card.params.get("model", {}).get("backbone") == "onnx":
        from biopsy.networks.backbones.encoder import OnnxEncoder

        ours = {"biopsy>OnnxEncoder": OnnxEncoder}
    try:
        model = keras.saving.load_model(path, ours, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be loaded in safe mode: {reason_of(error, 300)}") from None
    if ours:
        try:
            _ = model.get_layer("encoder").network  # opened here: within TensorFlow an error would lose its words
        except ValueError as error:
            raise SourceError(f"{path}: its encoder {error}.") from None
    return model, card
