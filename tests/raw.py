"""A project that stands right before `ingest`: a few drawn images, a CSV, and files that are broken on purpose."""

import ctypes
import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from biopsy.core.files import write_json
from biopsy.tables.labels.breakhis import TYPES

HEADER = "path_to_image,Benign or Malignant,Cancer Type,Magnification"


def draw(seed: int, height: int = 36, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(image: np.ndarray | Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


def breakhis_name(subtype: str, number: int, magnification: int = 40) -> str:
    initial = TYPES[subtype][0][0].upper()
    return f"SOB_{initial}_{subtype}-14-9{list(TYPES).index(subtype)}{number:02d}AB-{magnification}-001.png"


def write_raw(root: Path, images: dict[str, bytes | None], csv: bytes | str, description: str = "Drawn.") -> None:
    """Write data/raw; an image given as None is named by the CSV and not written."""
    (root / "data/raw/images").mkdir(parents=True, exist_ok=True)
    for name, data in images.items():
        if data is not None:
            (root / "data/raw/images" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "data/raw/images" / name).write_bytes(data)
    (root / "data/raw/metadata.csv").write_bytes(csv.encode() if isinstance(csv, str) else csv)
    write_json(root / "data/raw/source.json", {"source": "local", "synthetic": True, "description": description})


def eight_images() -> dict[str, bytes | None]:
    """One image of each type under its BreakHis name."""
    return {breakhis_name(code, i): png(draw(i)) for i, code in enumerate(TYPES)}


def rows_of(images: dict[str, bytes | None]) -> list[str]:
    """The course CSV's rows for images with BreakHis names."""
    codes = [name.split("_")[2].split("-")[0] for name in images]
    words = [",".join(words).title() for words in (TYPES[code] for code in codes)]
    return [f"{name},{both},40X" for name, both in zip(images, words, strict=True)]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int = 30_000) -> bytes:
    """A whole, valid PNG of side x side black pixels in some 100 KB."""
    pack, line = zlib.compressobj(1), bytes(1 + side // 8)
    data = b"".join(pack.compress(line * 100) for _ in range(side // 100)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def outputs(root: Path) -> dict[str, str]:
    """The hash of every file that a stage wrote below `root`."""
    places = [root / name for name in ("data/interim", "metrics", "plots", "models")]
    files = sorted(path for place in places for path in place.rglob("[!.]*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def obey_permissions() -> None:
    """In a child process of root: give up the right to read what the mode forbids (CAP_DAC_OVERRIDE, _READ_SEARCH)."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2):
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
