"""A model as one ONNX file: the network, and as its metadata all that is needed to use and to trust it.

The file is a network without metadata, and behind it the metadata: protocol buffers that follow each other are one.
So both can be read and checked here, without the package `onnx`, before ONNX Runtime sees a byte.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from biopsy.core.errors import SourceError
from biopsy.networks.model_file import Card
from biopsy.serving.extras import extra

SCHEMA = 1  # raised when a file of today could no longer be understood
INPUT, OUTPUT = "images", "probabilities"
_METADATA = 14  # the number of ModelProto.metadata_props


def input_shape(card: Card) -> tuple[int, ...]:
    """Return the shape of one image as the network takes it: (size, size, 3), or (views, size, size, 3)."""
    square = (card.preparation.size, card.preparation.size, 3)
    return square if card.preparation.views == 1 else (card.preparation.views, *square)


def seal(network: bytes, facts: Mapping[str, Any]) -> bytes:
    """Put metadata behind a network.

    Parameters
    ----------
    network
        A serialised `ModelProto` without metadata.
    facts
        What JSON can hold; `card` is a dumped `Card`.

    Returns
    -------
    bytes
        The file, with the entries `biopsy_schema` and `biopsy_sha256`, the hash of the network and the other entries.
    """
    entries = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in facts.items()
    }
    entries["biopsy_schema"] = str(SCHEMA)
    entries["biopsy_sha256"] = _digest(network, entries)
    return network + b"".join(
        _field(_METADATA, _field(1, k.encode()) + _field(2, v.encode())) for k, v in entries.items()
    )


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
        Missing, truncated, edited, not one of ours, or of a later version.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise SourceError(f"{path} is no file. Make one with `biopsy export models/<name>`.") from None
    entries: dict[str, str] = {}
    end = len(content)  # of the network
    try:
        for number, start, value in _fields(content):
            if number == _METADATA and isinstance(value, bytes):
                end = min(end, start)
                pair = {n: v for n, _, v in _fields(value)}
                entries[bytes(pair[1]).decode()] = bytes(pair[2]).decode()
            elif end < start:  # behind the metadata, where no hash would cover it
                entries["biopsy_sha256"] = ""
    except (ValueError, KeyError, TypeError):
        raise SourceError(
            f"{path} is truncated, or no ONNX file. Copy it again, or make it with `biopsy export`."
        ) from None
    if "biopsy_schema" not in entries:
        raise SourceError(
            f"{path} was not made by `biopsy export`, or is truncated: it does not say how to prepare images."
        )
    if not (schema := entries["biopsy_schema"]).isdecimal() or int(schema) > SCHEMA:
        raise SourceError(
            f"{path} was made by a later version of Biopsy (schema {schema[:20]}). Update Biopsy to use it."
        )
    if entries.get("biopsy_sha256") != _digest(content[:end], entries):
        raise SourceError(
            f"{path} was changed since its export (its SHA-256 differs). Copy it again, or export it again."
        )
    try:
        return content, entries, Card.model_validate_json(entries["card"], strict=True)
    except (ValidationError, KeyError):
        raise SourceError(f"{path} was made by another version of Biopsy: its card differs. Export it again.") from None


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
    """

    def __init__(self, path: Path, content: bytes, facts: dict[str, str], card: Card) -> None:
        """Check that inputs and outputs are what the card says. See `load_network`."""
        with extra("predict"):
            import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is said in our words
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, one a kind of fault
            reason = " ".join(str(error).split())[:200]
            raise SourceError(f"{path} cannot be loaded by ONNX Runtime: {reason}") from None
        self.facts = facts
        self._one = int(card.preparation.views == 1)
        given = {i.name: (i.type, tuple(i.shape[1:])) for i in self._session.get_inputs()}
        made = {o.name: (o.type, tuple(o.shape[1:])) for o in self._session.get_outputs()}
        if given != {INPUT: ("tensor(uint8)", input_shape(card))}:
            raise SourceError(f"{path} takes {given}, which is not what its card says. Export it again.")
        if made.get(OUTPUT) != ("tensor(float)", (len(card.classes),)):
            raise SourceError(f"{path} gives {made}, which does not fit the card's {len(card.classes)} classes.")

    def __call__(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """From (n, views, size, size, 3) to calibrated probabilities (n, classes)."""
        asked = views[:, 0] if self._one else views
        return np.asarray(self._session.run([OUTPUT], {INPUT: asked})[0], np.float64)


def _digest(network: bytes, entries: Mapping[str, str]) -> str:
    rest = {key: value for key, value in entries.items() if key != "biopsy_sha256"}
    return hashlib.sha256(network + json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _fields(content: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yield number, place and value of each field of a protocol buffer. Raises `ValueError` where it is none."""
    place = 0
    while place < len(content):
        start = place
        tag, place = _varint(content, place)
        if tag >> 3 == 0 or tag & 7 not in (0, 2):
            raise ValueError("no field that an ONNX file has")
        value, place = _varint(content, place)
        if tag & 7 == 2:
            if place + value > len(content):
                raise ValueError("truncated")
            yield tag >> 3, start, content[place : place + value]
            place += value
        else:
            yield tag >> 3, start, value


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(content) or shift > 63:
            raise ValueError("truncated")
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


def _field(number: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
