"""Whole files whose header promises more rows than their data holds; decoders fill what is missing with black or grey.

Pillow raises where a file ends too early, but not where a stream inside it ends as it should, only sooner.
"""

import re
import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's pixel, by its colour type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
END, MARKER = b"\xff\xd9", re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # MARKER: what ends the data of a JPEG's scan
FRAMES = (0xC0, 0xC1, 0xC2)  # JPEG markers that carry a height
MOST_ZEROS = 32  # compressed data of tissue does not end in more zeros; they decode without an error
GLASS = 200  # of 255: what is darker is not the empty part of a slide
FEW = 0.12  # share of zeros at the end of a lossy WebP: glass alone gives up to 0.06
# Entropy-coded data for any restart interval, which a whole JPEG never reads.
JUNK = b"".join(bytes([0x5A, 0xA5, 0x3C] * 8) + bytes([0xFF, 0xD0 + number]) for number in range(8)) * 2


def missing_data(data: bytes, image: ImageFile.ImageFile, pixels: NDArray[np.uint8]) -> str:
    """Say what a file lacks, or nothing.

    Parameters
    ----------
    data
        The file.
    image
        As Pillow opened it.
    pixels : uint8 array of shape (height, width, 3)
        As it was decoded.

    Returns
    -------
    str
        Such as 'holds 210,100 bytes of pixels of 966,460'; empty where the file is whole.
    """
    if image.format == "PNG":
        wanted, found = _png_bytes(data)
        return "" if found >= wanted else f"holds {found:,} bytes of pixels of {wanted:,}"
    uniform = bool((pixels[-1] == pixels[-1, 0]).all())  # filled rows have one colour; many whole images end so, too
    if image.format == "WEBP":  # zeros that are meant are glass or black; others, streaks of what is above, or black
        zeros, share, lossless = _webp_zeros(data)
        meant = uniform and (pixels[-1, 0].min() >= GLASS if lossless else share < FEW)
        return "" if meant or zeros < MOST_ZEROS else f"ends in {zeros:,} zero bytes"
    if image.format in ("JPEG", "MPO") and (uniform or image.info.get("progressive")):
        return "" if _reads_no_further(data, pixels) else "ends before its last row"
    if image.format == "TIFF" and image.info.get("compression") == "jpeg" and uniform:
        rows = sum(_jpeg_height(strip) for strip in _pieces(data, image, 273))
        return "" if rows >= image.height else f"holds {rows:,} rows of {image.height:,}"
    if image.format == "TIFF" and image.info.get("compression") in ("tiff_adobe_deflate", "tiff_deflate"):
        pieces = _pieces(data, image, 273) + _pieces(data, image, 324)
        return "" if all(_is_whole(piece, 16 * pixels.size) for piece in pieces) else "has pixels with a wrong checksum"
    return ""


def _webp_zeros(data: bytes) -> tuple[int, float, bool]:
    """Count the zero bytes in which a WebP's compressed pixels end, tell their share, and whether it is lossless."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        if kind in (b"VP8 ", b"VP8L"):
            pixels = data[at + 8 : at + 8 + length]
            zeros = len(pixels) - len(pixels.rstrip(b"\0"))
            return zeros, zeros / max(len(pixels), 1), kind == b"VP8L"
        at += 8 + length + length % 2
    return 0, 0.0, False


def _png_bytes(data: bytes) -> tuple[int, int]:
    """Return how many bytes of filtered rows a PNG's header asks for, and how many it holds (at most one more)."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * SAMPLES[colour]
    grid = ADAM7 if interlaced else ((0, 0, 1, 1),)
    passes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in grid]
    wanted = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in passes if columns > 0 and rows > 0)
    unpack, found, at = zlib.decompressobj(), 0, 8
    while at + 8 <= len(data) and found <= wanted:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            found += len(unpack.decompress(data[at + 8 : at + 8 + length], wanted + 1 - found))
        at += 12 + length
    return wanted, found


def _reads_no_further(data: bytes, pixels: NDArray[np.uint8]) -> bool:
    """Say whether a JPEG is decoded to the same pixels when more data follows that of each of its scans."""
    longer, at = bytearray(), 2
    while at + 4 <= len(data) and data[at : at + 2] != END:
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        scan = data[at + 1] == 0xDA
        if scan:
            found = MARKER.search(data, after)
            after = found.start() if found else len(data)
        longer += data[at:after] + (JUNK if scan else b"")
        at = after
    with Image.open(BytesIO(data[:2] + longer + END), formats=["JPEG"]) as image:
        return np.array_equal(np.asarray(image.convert("RGB")), pixels)


def _pieces(data: bytes, image: ImageFile.ImageFile, offsets: int) -> list[bytes]:
    """Return the strips (273) or tiles (324) of a TIFF that has such."""
    tags: Callable[[int], tuple[int, ...]] = lambda number: image.tag_v2.get(number, ())  # type: ignore[attr-defined]  # noqa: E731
    sizes = 279 if offsets == 273 else 325
    return [data[at : at + size] for at, size in zip(tags(offsets), tags(sizes), strict=False)]


def _is_whole(piece: bytes, most: int) -> bool:
    """Unpack a piece to its end, where the checksum is, which libtiff does not read once it has all pixels."""
    unpack = zlib.decompressobj()
    try:
        unpack.decompress(piece, most)
    except zlib.error:
        return False
    return unpack.eof or not piece


def _jpeg_height(strip: bytes) -> int:
    """Read the height that a JPEG stream says it has."""
    at = 2
    while at + 7 <= len(strip) and strip[at] == 0xFF:
        if strip[at + 1] in FRAMES:
            return int.from_bytes(strip[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(strip[at + 2 : at + 4], "big")
    return 0
