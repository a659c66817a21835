"""Known pathology encoders, which can be used as ONNX files: how they take images, and what their terms allow.

The normalisation of Midnight, UNI2-h and H-optimus-0 was read from their pages in November 2026. The rest is from
publications and was not checked again, and none of the weights was tried. Read the terms before you pass a model on.
`biopsy list encoders` prints them.
"""

from dataclasses import dataclass
from typing import Literal

Colours = tuple[float, float, float]
IMAGENET: tuple[Colours, Colours] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Colours, Colours] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPTIMUS: tuple[Colours, Colours] = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
LUNIT: tuple[Colours, Colours] = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
PLAIN: tuple[Colours, Colours] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

NO_HEADS = (
    "not for commercial use, and a model trained on its outputs counts as a derivative, which may not be passed on: "
    "keep this model and its exports to yourself"
)
WORDS = {
    "free": "which allows passing on a model that is trained on its outputs",
    "non-commercial": "not for commercial use, nor is a model that is trained on its outputs",
    "no heads": NO_HEADS,
    "own": "which says what a model that is trained on its outputs may be used for: read it before you pass one on",
}


@dataclass(frozen=True)
class Known:
    """One encoder.

    Attributes
    ----------
    source
        Organisation and repository, on the hub or on GitHub.
    licence
        Its name.
    allows
        What it allows to do with a model that is trained on the encoder's outputs; a key of `WORDS`.
    size, width
        The side in pixels of its training images, and the length of its feature vector.
    normalisation
        Mean and deviation of pixels / 255 by channel, for images as floats; None: not known here.
    """

    source: str
    licence: str
    allows: Literal["free", "non-commercial", "no heads", "own"]
    width: int
    normalisation: tuple[Colours, Colours] | None = IMAGENET
    size: int = 224


ENCODERS = {
    "midnight-12k": Known("kaiko-ai/midnight", "MIT", "free", 1536, HALF),
    "openmidnight": Known("SophontAI/OpenMidnight", "Apache-2.0", "free", 1536, None),
    "virchow": Known("paige-ai/Virchow", "Apache-2.0", "free", 2560),
    "h-optimus-0": Known("bioptimus/H-optimus-0", "Apache-2.0", "free", 1536, OPTIMUS),
    "path-foundation": Known("google/path-foundation", "Health AI Developer Foundations' terms", "own", 384, PLAIN),
    "phikon-v2": Known("owkin/phikon-v2", "Owkin's non-commercial licence", "non-commercial", 1024),
    "kaiko-vitb8": Known("kaiko-ai/towards_large_pathology_fms", "a non-commercial licence", "non-commercial", 768,
                         HALF),
    "lunit-vits8": Known("lunit-io/benchmark-ssl-pathology", "a non-commercial licence", "non-commercial", 384,
                         LUNIT),
    "uni": Known("MahmoodLab/UNI", "CC BY-NC-ND 4.0", "no heads", 1024),
    "uni2-h": Known("MahmoodLab/UNI2-h", "CC BY-NC-ND 4.0", "no heads", 1536),
    "conch-v1.5": Known("MahmoodLab/conchv1_5", "CC BY-NC-ND 4.0", "no heads", 768, IMAGENET, 448),
    "virchow2": Known("paige-ai/Virchow2", "CC BY-NC-ND 4.0", "no heads", 2560),
    "h-optimus-1": Known("bioptimus/H-optimus-1", "CC BY-NC-ND 4.0", "no heads", 1536, OPTIMUS),
    "h0-mini": Known("bioptimus/H0-mini", "CC BY-NC-ND 4.0", "no heads", 768, OPTIMUS),
}  # fmt: skip


def terms_of(name: str | None) -> str:
    """Say what the terms of an encoder allow to do with a model on it; an empty string where it is not named."""
    if name is None:
        return ""
    known = ENCODERS[name]
    return f"The encoder {name} ({known.source}) is under {known.licence}: {WORDS[known.allows]}."
