"""Metadata behind the bytes of a network: sealed by a hash, read without the packages `onnx` and ONNX Runtime.

The file is a network without metadata, and behind it the metadata: protocol buffers that follow each other are one.
So both can be read and checked here, before ONNX Runtime sees a byte.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biopsy.core.errors import SourceError

SCHEMA = 1  # raised when a file of today could no longer be understood
_METADATA = 14  # the number of ModelProto.metadata_props


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


def read_facts(path: Path) -> tuple[bytes, dict[str, str]]:
    """Read a file that `biopsy export` wrote.

    Returns
    -------
    content : bytes
    facts : dict of str
        Its metadata, `card` among them.

    Raises
    ------
    SourceError
        Missing, truncated, edited, not one of ours, or of a later version.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise SourceError(f"{path} is not a file. Make one with `biopsy export models/<name>`.") from None
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
    return content, entries


def _digest(network: bytes, entries: Mapping[str, str]) -> str:
    rest = {key: value for key, value in entries.items() if key != "biopsy_sha256"}
    return hashlib.sha256(network + json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _fields(content: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yield number, place and value of each field of a protocol buffer. Raises `ValueError` if it is not one."""
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


def kept_figures(short: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any] | None:
    """Choose what goes with a model from `metrics/<name>/test.json` and `details.json`; None where there are none."""
    kept = (
        "images", "cases", "intervals", "operating_point", "classes_not_in_test", "classes_not_in_training", "sets",
    )  # fmt: skip
    found = {key: details[key] for key in kept if key in details}
    if rules := details.get("abstention"):  # without the curves, which prediction does not need
        found["abstention"] = {"target": rules["target"]} | {
            unit: {"rule": (rules[unit] or {}).get("rule")} for unit in ("image", "case")
        }
    return {"test": dict(short), **found} if short else None
