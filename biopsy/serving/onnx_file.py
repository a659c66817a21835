"""A model as one ONNX file: the network, and as its metadata all that is needed to use and to trust it."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from biopsy.core.errors import MachineError, SourceError
from biopsy.core.layout import EXPORTED, EXPORTS, exported_in, model_name, project_of
from biopsy.networks.answers import TURNS
from biopsy.networks.encoder_file import runtime_reason
from biopsy.networks.model_file import Card, read_card
from biopsy.networks.onnx_session import open_session
from biopsy.serving.onnx_metadata import read_facts

INPUT, OUTPUT = "images", "probabilities"
FEATURES, MAPS = "features", "activation_map"  # which not every file gives


def input_shape(card: Card) -> tuple[int, ...]:
    """Return the shape of one image as the network takes it: (size, size, 3), or (views, size, size, 3)."""
    square = (card.preparation.size, card.preparation.size, 3)
    return square if card.preparation.views == 1 else (card.preparation.views, *square)


def open_file(path: Path) -> tuple[bytes, dict[str, str], Card]:
    """Read a file that `biopsy export` wrote.

    Returns
    -------
    content : bytes
    facts : dict of str
        Its metadata.
    card : Card
        What the model is.

    Raises
    ------
    SourceError
        As `read_facts`, or the card is of another version.
    """
    content, facts = read_facts(path)
    try:
        return content, facts, Card.model_validate_json(facts["card"], strict=True)
    except (ValidationError, KeyError):
        raise SourceError(f"{path} was made by another version of Biopsy: its card differs. Export it again.") from None


def exported_file(path: Path) -> Path | None:
    """Find the .onnx file to load: the path itself, or that of a folder's model where Keras is not installed.

    Returns
    -------
    Path or None
        None: load the folder with Keras.

    Raises
    ------
    MachineError
        The folder needs Keras, which is not installed.
    """
    if path.suffix.lower() == ".onnx":
        return path
    if inside := exported_in(path):
        return inside
    if find_spec("keras"):
        return None
    if found := export_of(path):
        return found
    raise MachineError(
        f"{path} is a Keras model, and {sys.executable} has no Keras. Where the model was made, run "
        f"`biopsy export {path}` and name the .onnx file that it writes; or install the extra `pipeline`."
    )


def export_of(folder: Path) -> Path | None:
    """Find the file that was exported of a folder's model, in it or in the project's exports/; None: none."""
    sha, name = read_card(folder).model_sha256, model_name(folder)
    exports = project_of(folder) / EXPORTS
    places = (folder / EXPORTED, exports / name / EXPORTED, exports / f"{name}.onnx")
    there = (path for path in places if path.is_file())
    return next((path for path in there if open_file(path)[2].model_sha256 == sha), None)


def load_network(path: Path) -> tuple["Network", Card]:
    """Load a file for prediction, with ONNX Runtime on the processor. Raises `SourceError` as `open_file`."""
    content, facts, card = open_file(path)
    return Network(path, content, facts, card), card


class Network:
    """An ONNX file in memory; call it with uint8 images.

    Attributes
    ----------
    facts : dict of str
        The file's metadata: `figures`, `parity`, ...
    gives : frozenset of str
        Which of `FEATURES` and `MAPS` it gives beside probabilities; none in a file of an earlier version.
    """

    def __init__(self, path: Path, content: bytes, facts: dict[str, str], card: Card) -> None:
        """Check that inputs and outputs are what the card says. See `load_network`."""
        try:
            self._session = open_session(content)
        except MachineError:
            raise
        except Exception as error:  # ONNX Runtime's own classes, one a kind of fault
            raise SourceError(f"{path} cannot be loaded by ONNX Runtime: {runtime_reason(error)}.") from None
        self.facts = facts
        self._one, self._turns = int(card.preparation.views == 1), TURNS[card.tta]
        given = {i.name: (i.type, tuple(i.shape[1:])) for i in self._session.get_inputs()}
        made = {o.name: (o.type, tuple(o.shape[1:])) for o in self._session.get_outputs()}
        if given != {INPUT: ("tensor(uint8)", input_shape(card))}:
            raise SourceError(f"{path} takes {given}, which is not what its card says. Export it again.")
        if made.get(OUTPUT) != ("tensor(float)", (len(card.classes),)):
            raise SourceError(f"{path} gives {made}, which does not fit the card's {len(card.classes)} classes.")

        self.gives = frozenset(made) & {FEATURES, MAPS}

    def __call__(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, classes) of images (n, views, size, size, 3)."""
        return self.ask(views, OUTPUT)[0]

    def ask(self, views: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float64]]:
        """Return some outputs for (n, views, size, size, 3), in one pass; maps are (n, views, classes, h, w)."""
        asked = views[:, 0] if self._one else views
        parts = np.array_split(asked, max(1, min(self._turns, len(asked))))  # each becomes as many squares as all were
        found = zip(*(self._session.run(list(outputs), {INPUT: part}) for part in parts), strict=True)
        given = [np.concatenate(values).astype(np.float64) for values in found]
        return [v[:, None] if name == MAPS and self._one else v for name, v in zip(outputs, given, strict=True)]
