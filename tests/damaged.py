"""Damaged and hostile images: truncated, changed, bombs, polyglots, huge text chunks."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes, pixels: bytes = b"") -> bytes:
    """A PNG whose header says what is given; `more` are chunks in front of its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        SIGNATURE
        + chunk(b"IHDR", header)
        + b"".join(more)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


def whole(side: int = 48) -> dict[str, bytes]:
    """A sound image in each format."""
    shades = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    found = {}
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"):
        stream = io.BytesIO()
        Image.fromarray(shades).save(stream, kind)
        found[kind] = stream.getvalue()
    return found


def hostile() -> dict[str, bytes]:
    """Images that are made to do harm."""
    sound, packed, row = whole(), io.BytesIO(), b"\0" + bytes(3 * 48)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.html", "<script>alert(1)</script>")
    zeros = zlib.compress(bytes(2**24), 9)
    frames = io.BytesIO()
    pages = [Image.new("L", (48, 48), shade) for shade in range(40)]
    pages[0].save(frames, "GIF", save_all=True, append_images=pages[1:])
    tiff = bytearray(sound["TIFF"])
    return {
        "empty": b"",
        "bomb by header": png(200_000, 20_000),
        "bomb of pixels": png(48, 48, pixels=bytes(2**24)),
        "bomb of a text": png(48, 48, chunk(b"zTXt", b"a\0\0" + zeros), pixels=row * 48),
        "bomb of a profile": png(48, 48, chunk(b"iCCP", b"a\0\0" + zeros), pixels=row * 48),
        "long text": png(48, 48, chunk(b"tEXt", b"a\0" + b"x" * 2**21), pixels=row * 48),
        "chunk of a false length": SIGNATURE + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(40),
        "a thousand chunks": png(48, 48, *[chunk(b"tEXt", b"a\0b")] * 1000, pixels=row * 48),
        "PNG and archive": sound["PNG"] + packed.getvalue(),
        "JPEG and page": sound["JPEG"] + b"<html><script>alert(1)</script></html>",
        "page that is called an image": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "PDF and JPEG": b"%PDF-1.7\n" + sound["JPEG"],
        "PNG that begins as a JPEG": b"\xff\xd8\xff" + sound["PNG"],
        "frames": frames.getvalue(),
        "TIFF whose directory is itself": bytes(tiff[:4] + struct.pack("<I", 4) + tiff[8:]),
        "TIFF whose directory is elsewhere": bytes(tiff[:4] + struct.pack("<I", 2**32 - 8) + tiff[8:]),
    }


def damaged(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` images: the hostile ones, and sound ones that are cut, changed or both."""
    rng, sound = np.random.default_rng(seed), list(whole().values())
    yield from list(hostile().values())[:count]
    for number in range(count - len(hostile())):
        content = bytearray(sound[number % len(sound)])
        for place in rng.integers(0, len(content), int(rng.integers(0, 9))):
            content[int(place)] = int(rng.integers(256))
        yield bytes(content[: int(rng.integers(1, len(content) + 40))])
