"""A header that promises more rows than the data holds: rejected in every format whose decoders fill the rest."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from raw import chunk, draw

from biopsy.images.decode import ImageError, read_rgb

HEIGHT, ROWS = 96, 24  # what the header says, and what there is
MODES = {"RGB": (8, 2, 3), "L": (8, 0, 1), "P": (8, 3, 1), "1": (1, 0, 1 / 8), "RGBA": (8, 6, 4), "RGB;16": (16, 2, 6)}


def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(mode: str, rows: float, interlaced: int = 0) -> bytes:
    """A PNG of valid chunks, checksums and zlib whose header says 48 x 96."""
    depth, colour, size = MODES[mode]
    data = np.random.default_rng(0).integers(0, 256, (HEIGHT, 1 + int(48 * size)), np.uint8)
    data[:, 0] = 0  # the filter
    content = data.tobytes()
    if interlaced:  # seven passes of smaller rows; all bytes zero is one valid image
        content = bytes(
            sum(h * (1 + w * 3) for w, h in ((6, 12), (6, 12), (12, 12), (12, 24), (24, 24), (24, 48), (48, 48)))
        )
    content = content[: round(len(content) * rows / HEIGHT)]
    header = struct.pack(">IIBBBBB", 48, HEIGHT, depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if mode == "P" else b""
    chunks = chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def promise_more(data: bytes, kind: str) -> bytes:
    """Write HEIGHT into the header of a file of ROWS rows."""
    changed = bytearray(data)
    if kind == "JPEG":
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        changed[at + 5 : at + 7] = struct.pack(">H", HEIGHT)
    elif kind == "BMP":
        changed[22:26] = struct.pack("<i", HEIGHT)
    elif kind == "TIFF":
        (start,) = struct.unpack("<I", data[4:8])
        for at in range(start + 2, start + 2 + 12 * struct.unpack("<H", data[start : start + 2])[0], 12):
            tag, width = struct.unpack("<HH", data[at : at + 4])
            if tag in (257, 278):  # rows, rows of a strip
                changed[at + 8 : at + 8 + (2 if width == 3 else 4)] = struct.pack("<H" if width == 3 else "<I", HEIGHT)
    return bytes(changed)


def rejected(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(ImageError, match="is truncated or damaged") as caught:
        read_rgb(path, 10**6)
    assert caught.value.reason == "broken"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [0, ROWS, HEIGHT - 1, HEIGHT - 0.5])
def test_a_png_that_lacks_rows_or_the_end_of_one_is_broken(tmp_path: Path, mode: str, rows: float) -> None:
    rejected(tmp_path / "a.png", png(mode, rows))
    (tmp_path / "a.png").write_bytes(png(mode, HEIGHT))
    assert read_rgb(tmp_path / "a.png", 10**6).shape == (HEIGHT, 48, 3)


def test_an_interlaced_png_that_lacks_its_last_pass_is_broken(tmp_path: Path) -> None:
    rejected(tmp_path / "a.png", png("RGB", HEIGHT / 2, 1))
    (tmp_path / "a.png").write_bytes(png("RGB", HEIGHT, 1))
    assert read_rgb(tmp_path / "a.png", 10**6).shape == (HEIGHT, 48, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 2}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_jpeg_that_lacks_rows_is_broken_and_a_whole_one_of_glass_is_not(
    tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    image = Image.fromarray(draw(0, ROWS)).convert(mode)
    rejected(tmp_path / "a.jpg", promise_more(saved("JPEG", image, **options), "JPEG"))
    for whole in (image, Image.new(mode, (48, ROWS), image.getpixel((0, 0))), Image.new(mode, (48, ROWS))):
        (tmp_path / "a.jpg").write_bytes(saved("JPEG", whole, **options))
        assert read_rgb(tmp_path / "a.jpg", 10**6).shape == (ROWS, 48, 3)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_tiff_that_lacks_rows_is_broken(tmp_path: Path, compression: str) -> None:
    for image in (Image.fromarray(draw(0, ROWS)), Image.new("RGB", (48, ROWS), "white")):
        data = saved("TIFF", image, compression=compression)
        rejected(tmp_path / "a.tif", promise_more(data, "TIFF"))
        (tmp_path / "a.tif").write_bytes(data)
        assert read_rgb(tmp_path / "a.tif", 10**6).shape == (ROWS, 48, 3)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_whose_end_is_zeros_is_broken(tmp_path: Path, lossless: bool) -> None:
    """Its decoder makes pixels of them without a word."""
    data = saved("WEBP", Image.fromarray(draw(0, HEIGHT)), lossless=lossless)
    for kept in (len(data) * 6 // 10, len(data) // 11):
        rejected(tmp_path / "a.webp", data[:kept] + bytes(len(data) - kept))
    glass = np.full((900, 1200, 3), 255, np.uint8)  # around the tissue; its data ends in hundreds of zeros
    glass[:36, :48] = draw(0)
    for image in (draw(0, HEIGHT), np.zeros((HEIGHT, 48, 3), np.uint8), glass):
        for method in (0, 4):
            whole = saved("WEBP", Image.fromarray(image), lossless=lossless, method=method)
            read_rgb(whole, 10**7)


@pytest.mark.parametrize("tile", [None, (48, 48)])
def test_a_hole_in_deflated_tiff_data_is_broken(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    stream, pixels = io.BytesIO(), draw(0, HEIGHT) // 4 * 4
    tifffile.imwrite(stream, pixels, photometric="rgb", compression="zlib", tile=tile)
    data = stream.getvalue()
    assert np.array_equal(read_rgb(data, 10**6), pixels)
    for at in range(len(data) // 4, len(data) * 3 // 4, 97):
        rejected(tmp_path / "a.tif", data[:at] + bytes(64) + data[at + 64 :])
        rejected(tmp_path / "a.tif", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_bmp_that_lacks_rows_is_broken(tmp_path: Path) -> None:
    rejected(tmp_path / "a.bmp", promise_more(saved("BMP", Image.fromarray(draw(0, ROWS))), "BMP"))
