"""What the HTTP interface answers, in types: mypy holds the code against them, and OpenAPI shows them to programs."""

from collections.abc import Sequence
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from biopsy.networks.model_file import NOTICE

Alike = TypedDict("Alike", {"image": str, "class": str, "distance": float, "picture": NotRequired[str]})


class Prediction(TypedDict):
    """One image's prediction; without one, `error` says why.

    `abstain`: whether the answer is too unsure by the model's own rule; `in_training`: whether the model has learnt
    from this image; `unlike_training`: in what it lies far outside the training images; `similar`: those most like it.
    Each is null where it is not known.
    """

    image: str
    predicted: str | None
    probabilities: dict[str, float] | None
    error: str | None
    abstain: bool | None
    in_training: bool | None
    unlike_training: list[str] | None
    similar: list[Alike] | None


class Predictions(TypedDict):
    """One row an image, in the order of the request."""

    model: str
    classes: list[str]
    notice: str
    predictions: list[Prediction]


class Scale(TypedDict):
    """The colours of all maps of an answer, from -limit to limit."""

    limit: float
    method: str
    words: str
    colours: list[str]


class Explained(TypedDict):
    """One image's explanation; without one, only `image`, `predicted` (null) and `error`."""

    image: str
    predicted: str | None
    error: str | None
    probability: NotRequired[float]
    flat: NotRequired[bool]
    trusted: NotRequired[bool | None]
    verdict: NotRequired[str]
    peak: NotRequired[dict[str, float]]
    overlay: NotRequired[str]
    picture: NotRequired[str]
    views: NotRequired[list[dict[str, Any]]]


class Explanations(TypedDict):
    """One row an image, in the order of the request; maps are PNGs as data: addresses."""

    model: str
    notice: str
    scale: Scale
    explanations: list[Explained]


class Models(TypedDict):
    """The models that can be asked, the first one where none is named; and what one request may hold.

    `looks`: words for what `unlike_training` names; `samples`: the names that /v1/sample knows.
    """

    notice: str
    models: list[dict[str, Any]]
    limits: dict[str, int]
    looks: dict[str, str]
    samples: list[str]


class Problem(TypedDict):
    """Why a request is not answered."""

    detail: str


def predictions_example(model: str, classes: Sequence[str]) -> Predictions:
    """Return an answer of one image and one that cannot be read."""
    rest = round(0.1 / (len(classes) - 1), 4)
    shares = dict.fromkeys(classes, rest) | {classes[-1]: 0.9}
    found = Prediction(
        image="a.png", predicted=classes[-1], probabilities=shares, error=None, abstain=False, in_training=False,
        unlike_training=["focus"], similar=[{"image": "training-001", "class": classes[-1], "distance": 0.14}],
    )  # fmt: skip
    nothing = Prediction(
        image="b.png", predicted=None, probabilities=None, error="b.png is empty (0 bytes)", abstain=None,
        in_training=None, unlike_training=None, similar=None,
    )  # fmt: skip
    return {"model": model, "classes": [*classes], "notice": NOTICE, "predictions": [found, nothing]}


def explanations_example(model: str, classes: Sequence[str]) -> Explanations:
    """Return an answer of one image."""
    scale = Scale(
        limit=0.3,
        method="occlusion",
        words="probability lost when this place is hidden",
        colours=["#80e7fe", "#ffcf67"],
    )
    found = Explained(
        image="a.png", predicted=classes[-1], error=None, probability=0.9, flat=False, trusted=True,
        peak={"x": 0.4, "y": 0.6, "lost": 0.3}, overlay="data:image/png;base64,iVBORw0KGgo=",
    )  # fmt: skip
    return {"model": model, "notice": NOTICE, "scale": scale, "explanations": [found]}
