"""Are these images like those of the training? Each number of `biopsy.images.looks.record` here and there."""

from collections.abc import Mapping, Sequence
from typing import Any

from biopsy.images.looks.record import WORDS, Looks, ranges_of

DIFFERS, PARTLY = 0.5, 0.25  # share of images outside the range that holds 90 % of the training images
NOT_MEASURED = "the model's card does not say how its training images look. Train it again with this version"


def describe_shift(looks: Sequence[Mapping[str, float]], training: Looks | None) -> dict[str, Any]:
    """Compare images with a model's training images.

    Parameters
    ----------
    looks
        What `look_at` measured on n images, at least one, with width and height.
    training
        Of the card.

    Returns
    -------
    dict
        Ready for JSON. `numbers`: for each its `words`, `here` and `training` (low, median, high; None: not known),
        `outside`, the share of images outside the training range (0.1 is usual), and `verdict`: 'alike', 'partly',
        'differs' or 'not known'. `unlike`: how many images have a number far outside. `reason`: why nothing could be
        compared, if so.
    """
    here, numbers = ranges_of(looks), {}
    for name, found in here.ranges.items():
        there = training.ranges.get(name) if training else None
        row: dict[str, Any] = {"words": WORDS[name], "here": found.model_dump(), "training": None, "outside": None}
        row["verdict"] = "not known"
        if there:
            values = [look[name] for look in looks if name in look]
            share = sum(there.outside(value) for value in values) / len(values)
            row |= {"training": there.model_dump(), "outside": round(share, 6)}
            row["verdict"] = "differs" if share > DIFFERS else "partly" if share > PARTLY else "alike"
        numbers[name] = row
    found_all: dict[str, Any] = {"images": len(looks), "numbers": numbers}
    if training is None:
        return found_all | {"unlike": None, "training_images": None, "reason": NOT_MEASURED}
    unlike = sum(bool(training.unlike(look)) for look in looks)
    return found_all | {"unlike": unlike, "training_images": training.images}


def say_shift(shift: Mapping[str, Any]) -> str:
    """Say in a sentence or two whether the images are like those of the training."""
    if "reason" in shift:
        return f"Whether these images look like those of the training is not known: {shift['reason']}."
    named = {
        kind: [row["words"].partition(" (")[0] for row in shift["numbers"].values() if row["verdict"] == kind]
        for kind in ("differs", "partly")
    }
    far = (
        f"{shift['unlike']:,} of {shift['images']:,} images are far outside the range of the training images in at "
        "least one measure."
    )
    if not any(named.values()):
        return f"In stain, focus, brightness and size these images look like those of the training. {far}"
    how_many = {"differs": "most", "partly": "some"}
    told = [f"{word} differ in {'; '.join(named[kind])}" for kind, word in how_many.items() if named[kind]]
    return (
        f"These images look unlike those of the training: {', and '.join(told)}. {far} "
        "Lower figures may come from how the images were made, and not only from other patients."
    )
